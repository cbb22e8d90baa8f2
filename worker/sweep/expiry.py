"""Removes snapshots that are older than their organization's policy keeps them.

The sweep looks for such snapshots and lets a job remove them, because only the workers of exports can reach the files.
The policy and the legal holds are read again before each batch, so that changes take effect immediately.
"""

from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from bson import ObjectId
from pymongo.client_session import ClientSession

from worker.closings.policies import Policies
from worker.domain.ledger_entry import HAS_SNAPSHOT
from worker.erasure.files import Files
from worker.erasure.holds import Holds
from worker.erasure.records import unpacked
from worker.errors import InvalidRequest
from worker.exports.destination import DestinationFailed, DestinationUnavailable
from worker.exports.verifying import ManifestUnreadable
from worker.jobs.job import UNFINISHED, Job
from worker.jobs.slices import Slice
from worker.jobs.store import JobFilter, Jobs
from worker.log import get_logger
from worker.service import Service
from worker.source.ids import read_id, stored_forms
from worker.stores.checkpoints import EXPIRED, Checkpoints
from worker.stores.connections import Document, store_errors
from worker.stores.counts import record_changes, removals
from worker.sweep.budget import Budget

log = get_logger(__name__)

_NAME = "expiry"
_LOOK = timedelta(minutes=10)
_PAUSE = timedelta(days=1)
"""Export files of an organization are changed at most once a day, unless its policy has changed."""
_BATCH = 200
_MAX_READ = 5_000
"""Maximum number of snapshots that one read examines to find those that are too old."""
_MAX_REMOVED = 20_000
"""Maximum number of snapshots to remove before the files are cleaned, because the job stores their ids."""


class Expiry:
    """Finds snapshots that are older than their organization's policy allows, and accepts the jobs that remove them.

    All methods raise StoreUnavailable, StoreConflict.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._policies = Policies(service.connections)
        self._checkpoints = Checkpoints(service.connections)

    def accept_due(self, budget: Budget) -> int:
        """Accept a job for each organization that has snapshots to remove; return how many.

        It continues after the organization where the last call ran out of time.
        """
        now = self._service.clock.now()
        state = self._checkpoints.get(_NAME)
        # A time in the future was set by a former primary's clock.
        if "after" not in state and timedelta(0) <= now - state.get("lookedAt", now - _LOOK) < _LOOK:
            return 0
        after: Document = {"$gt": state["after"]} if "after" in state else {"$ne": None}
        with store_errors():
            which = {"keepFor.0": {"$exists": True}, "organizationId": after}
            found = self._policies.collection.find(which, {"organizationId": 1, "updatedAt": 1})
            organizations = list(found.sort("organizationId", 1))
        accepted = 0
        for each in organizations:
            changed = each.get("updatedAt")  # a document that someone else has written may have anything here
            since = max(now - _PAUSE, changed) if isinstance(changed, datetime) else now - _PAUSE
            accepted += self._accept(each["organizationId"], since)
            if budget.is_over and each is not organizations[-1]:
                self._checkpoints.set(_NAME, {"after": each["organizationId"]})
                return accepted
        self._checkpoints.update(_NAME, [{"$set": {"lookedAt": now}}, {"$unset": "after"}])
        return accepted

    def _accept(self, organization: ObjectId, since: datetime) -> bool:
        jobs = Jobs(self._service)
        last = next(iter(jobs.list(JobFilter(organization, "retention"), 1)), None)
        if last and (last.status in UNFINISHED or last.accepted_at > since):
            return False
        condition = self.condition(organization)
        # If that is not known soon, because many old snapshots must stay, the job searches without a time limit. One
        # organization must not delay the sweep's repairs.
        if condition is None or not self._service.snapshots.may_have_any(condition):
            return False
        jobs.accept("retention", organization, {}, checkpoint={"phase": "records", "ids": b"", "removed": {}})
        return True

    def condition(self, organization: ObjectId, session: ClientSession | None = None) -> Document | None:
        """Return the filter for an organization's snapshots that are too old now, or None if it keeps all of them.

        A contact under a legal hold keeps all snapshots. A policy that cannot be read removes nothing.
        """
        try:
            policy, _ = self._policies.get(organization, session)
        except InvalidRequest as error:
            log.error("policy_invalid", organization_id=str(organization), reason=error.message)
            return None
        expired = policy.keeps_for.expired(self._service.clock.now())
        if expired is None:
            return None
        held = stored_forms(hold.contact for hold in Holds(self._service).list(organization, session))
        return {
            "organizationId": {"$in": stored_forms([organization])},
            "isArchived": {"$in": [False, True, None]},  # all; the index has it before the time
            **expired,
            **({"contactId": {"$nin": held}} if held else {}),
        }

    def count(self, organization: ObjectId) -> int:
        """Count the snapshots that are too old now."""
        condition = self.condition(organization)
        with store_errors():
            return self._service.snapshots.collection.count_documents(condition) if condition else 0


class ExpiryJob:
    """Works on the slices of a retention job: see `worker.jobs.slices.Work`.

    records ─▶ export files ─▶ done
       ▲             │
       └── more ─────┘
    """

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._service = jobs.service
        self._expiry = Expiry(self._service)

    def __call__(self, job_slice: Slice) -> Mapping[str, Any] | None:
        """Continue a job; return the numbers of removed documents by place once nothing is left to remove.

        Raises all TransientErrors.
        """
        state = job_slice.checkpoint
        while not job_slice.is_over:
            if state["phase"] == "files":
                removed = Counter[str](state["removed"])
                try:
                    done = Files(self._jobs, job_slice, reason="expired").remove(removed)
                except (DestinationFailed, ManifestUnreadable) as error:
                    # A job that fails would lose the ids that the files still have.
                    raise DestinationUnavailable(error.message) from error
                state["removed"] = dict(removed)
                if done:
                    state |= {"phase": "records", "ids": b""}
                elif job_slice.pause:
                    break
            elif self._remove_batch(job_slice) and len(unpacked(state["ids"])) < _MAX_REMOVED:
                continue
            elif state["ids"]:
                state |= {"phase": "files", "removedAt": self._service.clock.now()}
            else:
                return self._result(job_slice)
            job_slice.save()
        job_slice.save()
        return None

    def clean_up(self, _: Job) -> None:
        """Do nothing: a failed job leaves no files, and what it has removed stays removed."""

    def _result(self, job_slice: Slice) -> dict[str, Any]:
        removed = dict(sorted(job_slice.checkpoint["removed"].items()))
        log.info("snapshots_expired", organization_id=str(job_slice.job.organization), **_named(removed))
        return {"removed": {place: count for place, count in removed.items() if count}}

    def _remove_batch(self, job_slice: Slice) -> bool:
        """Remove some of the snapshots that are too old; return whether there may be more."""
        condition = self._expiry.condition(job_slice.job.organization)
        if condition is None:
            return False
        snapshots, state = self._service.snapshots.collection, job_slice.checkpoint
        times = condition["createdAt"] | ({"$gte": state["since"]} if "since" in state else {})
        until = self._until(condition, times)
        if until:
            times["$lt"] = until
        with store_errors():
            rows = snapshots.find({**condition, "createdAt": times}, {"createdAt": 1}).sort("createdAt", 1)
            batch = list(rows.limit(_BATCH))
        # Snapshots that are kept for longer are not read again with each batch.
        if until and len(batch) < _BATCH:
            state["since"] = until
        elif batch:
            state["since"] = batch[-1]["createdAt"]
        else:
            state.pop("since", None)
            return False
        if not batch:
            return True
        with self._service.connections.transaction() as session:
            # Everything again, because an edit, a legal hold or another policy may have come in between.
            condition = self._expiry.condition(job_slice.job.organization, session)
            if condition is None:
                return False
            which = {**condition, "_id": {"$in": [each["_id"] for each in batch]}}
            removed = list(snapshots.find(which, {"requestId": 1, "contactId": 1}, session=session))
            contacts = {contact for each in removed if isinstance(contact := read_id(each.get("contactId")), ObjectId)}
            Holds(self._service).exclude([(job_slice.job.organization, contact) for contact in contacts], session)
            gone = [each["_id"] for each in removed]
            self._remove(job_slice, removed, session)
            state["ids"] += b"".join(key.binary for key in gone if isinstance(key, ObjectId))
            state["removed"] = dict(Counter(state["removed"]) + Counter(snapshots=len(gone)))
            job_slice.progress = {"removed": state["removed"]}
            job_slice.save(session)
        return True

    def _until(self, condition: Document, times: Document) -> datetime | None:
        """Return a time before which about `_MAX_READ` snapshots lie; None if there are fewer.

        No index contains the quality. If only one quality has a retention period, a read without this limit could
        examine other snapshots for minutes. This query reads only the index, because it ignores snapshots without
        `isArchived`, which has a default.
        """
        which = {
            "organizationId": condition["organizationId"],
            "isArchived": {"$in": [False, True]},
            "createdAt": times,
        }
        only: dict[str, Any] = {"_id": 0, "createdAt": 1}
        with store_errors():
            rows = self._service.snapshots.collection.find(which, only).sort("createdAt", 1).skip(_MAX_READ).limit(1)
            row: Any = next(iter(rows), None)
        if row is None:
            return None
        at: datetime = row["createdAt"]
        first = times.get("$gte")
        # More than that may be of one moment.
        return at if first is None or at > first else at + timedelta(milliseconds=1)

    def _remove(self, job_slice: Slice, removed: list[Document], session: ClientSession) -> None:
        """Remove snapshots, and record it in their ledger entries, as `Service.delete` does."""
        which = {"_id": {"$in": [each["_id"] for each in removed]}}
        self._service.snapshots.collection.delete_many(which, session=session)
        marked = {**which, "organizationId": job_slice.job.organization, **HAS_SNAPSHOT}
        change = {"$set": {"deletedAt": self._service.clock.now()}}
        ledger = self._service.ledger.collection
        before = ledger.find(marked, {"organizationId": 1, "finishedAt": 1}, session=session)
        changes = removals(job_slice.job.organization, removed, before)
        ledger.update_many(marked, change, session=session)
        record_changes(self._service.connections, session, changes)
        count = {"$inc": {"snapshots": len(removed)}}
        Checkpoints(self._service.connections).collection.update_one(EXPIRED, count, upsert=True, session=session)


def _named(removed: Mapping[str, int]) -> dict[str, int]:
    return {place.replace(" ", "_"): count for place, count in removed.items()}
