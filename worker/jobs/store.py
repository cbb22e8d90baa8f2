"""The collection of jobs. Every write has write concern majority and is journaled."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from bson import ObjectId
from pymongo import ReturnDocument
from pymongo.client_session import ClientSession
from pymongo.collection import Collection
from pymongo.read_concern import ReadConcern

from worker.errors import BrokerUnavailable, NotFound, SnapshotError, TransientError, WorkerLost
from worker.jobs.events import emit
from worker.jobs.job import ACCEPTED, CANCELLED, COMPLETED, FAILED, RUNNING, TASKS, UNFINISHED, Job, JobStatus, Kind
from worker.log import get_logger
from worker.service import Service
from worker.stores.connections import Document, store_errors

log = get_logger(__name__)

ENDED = (FAILED, CANCELLED)
_AHEAD = timedelta(hours=1)
"""A lease that ends further in the future was set by a former primary's clock, and counts as ended."""


class LeaseLost(TransientError):
    """Another slice has taken this job over, or it is finished."""

    code = "lease_lost"


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Selects jobs. A field that is None selects all."""

    organization: ObjectId | None = None
    kind: Kind | None = None
    status: JobStatus | None = None

    def condition(self) -> Document:
        """Return the MongoDB filter for the selected jobs."""
        condition = {"organizationId": self.organization, "kind": self.kind, "status": self.status}
        return {name: value for name, value in condition.items() if value is not None}


class Jobs:
    """Accepts, claims and finishes jobs. All methods raise StoreUnavailable and StoreConflict."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.lease = 2 * service.settings.run_deadline + timedelta(seconds=15)
        """How long a claim lasts. The hard time limit of a task (celeryconfig.py) is shorter, so it ends a slice
        first."""

    @cached_property
    def collection(self) -> Collection[Document]:
        """The collection `snapshotjobs`. A failover cannot roll back what is read, such as a job in progress."""
        name = self.service.settings.jobs_collection
        return self.service.connections.database.get_collection(name, read_concern=ReadConcern("majority"))

    # --- the caller's half ----------------------------------------------------------------------------------

    def accept(
        self,
        kind: Kind,
        organization: ObjectId,
        spec: Mapping[str, Any],
        *,
        user: ObjectId | None = None,
        local: bool = False,
        enqueue: bool = True,
        checkpoint: Mapping[str, Any] | None = None,
        session: ClientSession | None = None,
    ) -> Job:
        """Insert a job and enqueue its first slice. If Redis is down, the sweep enqueues it later.

        Args:
            spec: The fields of the request, validated by the caller. They are stored as they are and never change.
            user: The user who requested it; None for a command.
            local: Whether the caller's process runs all slices, and no worker does.
            enqueue: False if the caller runs the slices; if it dies, the sweep lets the workers continue.
            checkpoint: The state from which the first slice starts.
            session: Insert within its transaction, after which the caller enqueues the job.
        """
        document: Document = {
            "_id": ObjectId(),
            "kind": kind,
            "organizationId": organization,
            "spec": dict(spec),
            "status": ACCEPTED,
            "fence": 0,
            "stalled": 0,
            "acceptedAt": self.service.clock.now(),
            "enqueuedAt": self.service.clock.now(),
            **({"userId": user} if user else {}),
            **({"local": True} if local else {}),
            **({"checkpoint": dict(checkpoint)} if checkpoint else {}),
        }
        with store_errors():
            self.collection.insert_one(document, session=session)
        job = Job.read(document)
        if enqueue and not local:
            self.enqueue(job)
        return job

    def get(self, job: ObjectId, organization: ObjectId | None = None, kind: Kind | None = None) -> Job:
        """Return a job.

        Raises NotFound if it does not exist, or belongs to another organization or kind than those that are given.
        """
        with store_errors():
            found = self.collection.find_one({"_id": job, **JobFilter(organization, kind).condition()})
        if found is None:
            raise NotFound(f"{(kind or 'job').capitalize()} not found.")
        return Job.read(found)

    def list(self, which: JobFilter, limit: int, after: ObjectId | None = None) -> Sequence[Job]:
        """Return up to `limit` of the selected jobs, newest first, beginning after the id `after`."""
        condition = which.condition() | ({"_id": {"$lt": after}} if after else {})
        with store_errors():
            return [Job.read(each) for each in self.collection.find(condition).sort("_id", -1).limit(limit)]

    def cancel(self, job: ObjectId, organization: ObjectId | None = None) -> bool:
        """Cancel a job; return False if it is finished, unknown, or of another organization.

        A running slice ends at its next write, and one more slice removes what the job has written. No event is
        emitted, because the caller knows the outcome.
        """
        condition = {"_id": job, **JobFilter(organization).condition(), "status": {"$in": UNFINISHED}}
        now = self.service.clock.now()
        ends = {"status": CANCELLED, "finishedAt": now, "enqueuedAt": now, "leasedUntil": None}
        with store_errors():
            found = self.collection.find_one_and_update(condition, {"$set": ends, "$inc": {"fence": 1}})
        if found is None:
            return False
        if not found.get("local"):
            self.enqueue(Job.read(found))
        return True

    def delete(self, job: ObjectId) -> None:
        """Remove the record of a finished job."""
        with store_errors():
            self.collection.delete_one({"_id": job, "status": {"$nin": UNFINISHED}})

    # --- the worker's half ----------------------------------------------------------------------------------

    def claim(self, job: ObjectId, owner: str, *, local: bool = False) -> Job | None:
        """Claim a job for one slice; return None if it is finished or claimed by another slice.

        After `SNAPSHOTS_WORKER_LOST_AFTER` claims without a checkpoint the job fails as `worker_lost`.
        """
        now = self.service.clock.now()
        unleased = {"$not": {"$gt": now, "$lt": now + _AHEAD}}
        which = {"_id": job, "local": True if local else None}
        free = {**which, "status": {"$in": UNFINISHED}, "leasedUntil": unleased}
        claim = {
            "status": RUNNING,
            "owner": {"$literal": owner},
            "leasedUntil": now + self.lease,
            "fence": {"$add": ["$fence", 1]},
            "stalled": {"$add": ["$stalled", 1]},
            "startedAt": {"$ifNull": ["$startedAt", now]},
        }
        with store_errors():
            found = self.collection.find_one_and_update(free, [{"$set": claim}], return_document=ReturnDocument.AFTER)
        if found is None:
            return None
        claimed = Job.read(found)
        if claimed.stalled > self.service.settings.worker_lost_after:
            self.fail(claimed, WorkerLost("The job repeatedly crashed its worker process without making progress."))
            return None
        return claimed

    def save(
        self,
        claimed: Job,
        progress: Mapping[str, Any],
        checkpoint: Mapping[str, Any],
        session: ClientSession | None = None,
    ) -> None:
        """Store progress and checkpoint, and renew the lease. Raises LeaseLost if this is not the latest claim.

        With `session`, this is part of its transaction, so a slice that lost its lease cannot commit the other writes
        of the transaction either.
        """
        until = self.service.clock.now() + self.lease
        fields = {"progress": dict(progress), "checkpoint": dict(checkpoint), "leasedUntil": until, "stalled": 0}
        self._write(claimed, {"$set": fields}, session)

    def check(self, claimed: Job) -> None:
        """Raise LeaseLost if the job was cancelled or is no longer claimed by this slice."""
        with store_errors():
            if self.collection.find_one(_held(claimed), {"_id": 1}) is None:
                raise LeaseLost

    def release(self, claimed: Job, delay: timedelta | None = None) -> None:
        """End a slice of an unfinished job, and enqueue the next slice to run after `delay`. Raises LeaseLost."""
        self._write(claimed, {"$set": {"leasedUntil": None, "enqueuedAt": self.service.clock.now()}})
        if not claimed.is_local:
            self.enqueue(claimed, delay)

    def interrupt(self, claimed: Job) -> None:
        """End a slice that a server or destination has interrupted, so that the job can be claimed immediately.

        Raises LeaseLost. The claim does not count towards `stalled`, so that no job fails because of an outage.
        """
        stalled = {"$max": [0, {"$subtract": ["$stalled", 1]}]}  # it is 0 already if the slice has saved a checkpoint
        fields = {"leasedUntil": None, "stalled": stalled, "enqueuedAt": self.service.clock.now()}
        self._write(claimed, [{"$set": fields}])

    def mark_cleaned(self, job: Job) -> None:
        """Record that everything a failed or cancelled job had written is removed."""
        with store_errors():
            self.collection.update_one({"_id": job.id, "status": {"$in": ENDED}}, {"$unset": {"checkpoint": ""}})

    def complete(self, claimed: Job, result: Mapping[str, Any]) -> None:
        """Complete a job and emit its event, or leave that to the sweep while Redis is down. Raises LeaseLost."""
        self._finish(claimed, COMPLETED, {"result": dict(result)})

    def fail(self, claimed: Job, error: SnapshotError) -> None:
        """Fail a job with this error, and emit its event as `complete` does. Raises LeaseLost."""
        self._finish(claimed, FAILED, {"error": error.outcome()})

    def _finish(self, claimed: Job, status: JobStatus, fields: Document) -> None:
        ends = {"status": status, "finishedAt": self.service.clock.now(), "leasedUntil": None, "unsent": True}
        done: Document = {"$unset": {"checkpoint": ""}} if status == COMPLETED else {}
        self._write(claimed, {"$set": {**fields, **ends}, **done})
        self.emit_event(claimed.id)

    def _write(self, claimed: Job, change: Document | Sequence[Document], session: ClientSession | None = None) -> None:
        with store_errors():
            # Matched, not modified: a repeat after a lost answer changes nothing.
            if not self.collection.update_one(_held(claimed), change, session=session).matched_count:
                raise LeaseLost

    # --- wake-ups and events --------------------------------------------------------------------------------

    def enqueue(self, job: Job, delay: timedelta | None = None) -> None:
        """Publish a message that runs a slice, after `delay`. If Redis is down, the sweep does it later."""
        task, queue = TASKS[job.kind]
        try:
            self.service.publish(queue, [[str(job.id)]], self.service.clock.now(), delay, task=task)
        except BrokerUnavailable as error:
            log.warning("enqueue_failed", queue=queue, job=str(job.id), reason=error.message)

    def emit_event(self, job: ObjectId) -> None:
        """Emit the event of a finished job. If Redis is down, the sweep does it later."""
        try:
            self.emit_unsent({"_id": job})
        except TransientError as error:
            log.warning("emit_failed", job=str(job), reason=error.message)

    def emit_unsent(self, which: Document, limit: int = 500) -> int:
        """Emit the events of finished jobs that were not emitted yet; return their number. Raises BrokerUnavailable."""
        condition = {**which, "unsent": True}
        with store_errors():
            found = list(self.collection.find(condition).limit(limit))
        if found:
            emit(self.service.connections, map(Job.read, found))
        for owed in {each.get("owed") for each in found}:
            # If Redis has lost data in the meantime, `owed` has changed, and the event has to be emitted again.
            out = {"_id": {"$in": [each["_id"] for each in found if each.get("owed") == owed]}, "owed": owed}
            sent = {"$set": {"sentAt": self.service.clock.now()}, "$unset": {"unsent": ""}}
            with store_errors():
                self.collection.update_many({**out, "unsent": True}, sent)
        return len(found)

    def mark_events_unsent(self, since: datetime) -> None:
        """Mark the events emitted since `since` as not emitted, because Redis may have lost them."""
        recent = [{"finishedAt": {"$gte": since}}, {"sentAt": {"$gte": since}}]
        which = {"status": {"$in": [COMPLETED, FAILED]}, "$or": recent}
        with store_errors():
            self.collection.update_many(which, {"$set": {"unsent": True, "owed": ObjectId()}})

    def take_lost(self, queue: str, before: datetime) -> Iterator[Job]:
        """Yield a queue's jobs whose message was lost or whose slice died, and record that they are enqueued again.

        These are jobs that were last enqueued before `before`, are not claimed, and have work left: unfinished jobs
        that no command runs, and failed or cancelled jobs whose files are not removed yet.
        """
        now = self.service.clock.now()
        past, free = ({"$not": {"$gt": moment, "$lt": now + _AHEAD}} for moment in (before, now))
        kinds = [kind for kind, (_, own) in TASKS.items() if own == queue]
        idle = {"kind": {"$in": kinds}, "leasedUntil": free, "enqueuedAt": past}
        open_ = {"status": {"$in": UNFINISHED}, "local": None}
        unclean = {"status": {"$in": ENDED}, "checkpoint": {"$exists": True}}
        lost = {"$or": [{**open_, **idle}, {**unclean, **idle}]}
        while True:
            with store_errors():
                found = self.collection.find_one_and_update(lost, {"$set": {"enqueuedAt": now}})
            if found is None:
                return
            yield Job.read(found)


def _held(claimed: Job) -> Document:
    return {"_id": claimed.id, "status": RUNNING, "fence": claimed.fence}
