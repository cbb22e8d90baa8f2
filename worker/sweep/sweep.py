"""The sweep: repairs what was lost between the ledger and Redis.

Every few seconds it enqueues requests whose wake-up was lost or whose time has come, emits events that were not
emitted, replays events that Redis lost, applies the retention of events, ledger and snapshots, and keeps the counts.
All repairs share one time budget. A sweep that runs out of time names the repair with which the next one begins, so
that each repair completes eventually, however slow MongoDB is.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from uuid import uuid4

import pymongo
from bson import ObjectId

from worker.closings.accept import INTERACTIVE_PER_SECOND
from worker.domain.fair_shares import Allowance
from worker.domain.ledger_entry import (
    UNSENT,
    LedgerEntry,
    due_by,
    enqueued_in,
    groups_by_suspicion,
    has_event,
    is_open,
    with_fields,
)
from worker.errors import TaskInterrupt, TransientError, UnexpectedError
from worker.jobs.upkeep import JobUpkeep
from worker.log import get_logger
from worker.service import Service
from worker.stores.claims import Claims
from worker.stores.connections import Document, store_errors
from worker.stores.wakeups import BULK, INTERACTIVE, REQUEST_QUEUES, Queues
from worker.sweep.budget import Budget
from worker.sweep.counting import CountUpkeep
from worker.sweep.expiry import Expiry
from worker.sweep.replay import Replay
from worker.sweep.retention import Retention

log = get_logger(__name__)

_BATCH = 500
"""Maximum number of entries that one read of a repair returns."""
_AHEAD = timedelta(minutes=1)
"""A time further in the future was set by a former primary's clock: a countdown ends within 30 s."""
_ELECTION = timedelta(minutes=1)
"""A decision that is older is at majority on every primary."""
SECONDS = 20.0
"""The time budget of a sweep."""
_EXPIRY_SECONDS = 1.0
"""The time that one sweep may spend on finding snapshots that are too old."""
_MAX_CHANGED = 20_000
"""Maximum number of entries that each repair changes in one sweep. The next sweep continues."""

Repair = Callable[[], None]


@dataclass
class SweepReport:
    """The effects of one sweep, as counts of requests and events."""

    re_enqueued: int = 0
    due: int = 0
    emitted: int = 0
    replayed: int = 0
    stripped: int = 0
    expiring: int = 0
    """Number of accepted jobs that remove snapshots because of their age."""
    resume_at: str | None = None
    """The repair that ran out of time, with which the next sweep should begin."""


class Sweep:
    """One sweep. Several may run at once, because each changes entries by compare-and-set."""

    def __init__(self, service: Service, more: Mapping[str, Repair] | None = None) -> None:
        """`more`: further repairs by name, which run last."""
        self._service = service
        self._settings = service.settings
        self._ledger = service.ledger.collection
        self._queues = Queues(service.connections)
        self._claims = Claims(service.connections)
        self._replay = Replay(service)
        self._budget = Budget(SECONDS)
        self.report = SweepReport()
        self._repairs: dict[str, Repair] = {
            **{f"enqueue_lost:{queue}": partial(self._enqueue_lost, queue) for queue in REQUEST_QUEUES},
            "enqueue_due": self._enqueue_due,
            "emit_unsent": self._emit_unsent,
            "jobs": JobUpkeep(service),
            "replay": self._replay_lost,
            "trim_streams": self._trim_streams,
            "strip_ledger": self._strip_ledger,
            "expire_snapshots": self._expire_snapshots,
            "count": self._count,
            **(more or {}),
        }

    def __call__(self, budget: Budget | None = None, begin_with: str | None = None) -> SweepReport:
        """Run the repairs one after the other within the budget, beginning with `begin_with`.

        If a repair fails, the others still run. Raises the first error that the budget did not cause, which is
        UnexpectedError if our code has a bug or a document has fields of the wrong types.
        """
        self._budget = budget = budget or Budget(SECONDS)
        faults: list[TransientError] = []
        names = _rotated(list(self._repairs), begin_with)
        with suppress(TransientError):
            self._claims.check()  # after a failover, the former primary refuses it, and the repairs go to the new one
        for name in names:
            if budget.is_over:
                self.report.resume_at = name
                break
            try:
                with pymongo.timeout(budget.left):
                    self._repairs[name]()
            except TransientError as error:
                if budget.is_nearly_over:
                    # It ran out of time although it had the whole budget, so let the others go first.
                    self.report.resume_at = names[1] if name == names[0] else name
                    log.warning("sweep_out_of_time", repair=name, resume_at=self.report.resume_at)
                    break
                log.warning("repair_failed", repair=name, code=error.code, reason=error.message)
                faults.append(error)
            except Exception as error:
                if isinstance(error, TaskInterrupt):
                    raise
                log.exception("repair_failed", repair=name, code=UnexpectedError.code)
                faults.append(UnexpectedError(f"Unexpected {type(error).__name__} in the repair {name}."))
        if faults:
            raise faults[0]
        return self.report

    # --- wake-ups -------------------------------------------------------------------------------------

    def _enqueue_lost(self, queue: str) -> None:
        """Enqueue requests whose wake-up was published well before the oldest waiting message, and so was lost."""
        now = self._service.clock.now()
        lost_before = self._queues.lost_before(queue, now, self._settings.lost_after)
        if lost_before is None:
            return
        changes = {"$set": {"enqueuedAt": now}, "$inc": {"swept": 1}}
        running = {"$nor": [{"_id": {"$in": self._count_dead_runs(now)}}]}
        for lost in ({"$lt": lost_before}, {"$gt": now + _AHEAD}):
            for entries in self._take({**enqueued_in(queue), "enqueuedAt": lost, **running}, changes, "enqueuedAt"):
                if not self._enqueue_again(queue, entries):
                    return

    def _count_dead_runs(self, now: datetime) -> list[ObjectId]:
        """Add one to `unended` of the requests of each run whose process died; return the requests of the other runs.

        A run that was only slow undoes this when it ends.
        """
        running: list[ObjectId] = []
        for record in self._service.run_records:
            if now - self._settings.lost_after < record.began_at < now + _AHEAD:
                running += record.keys
            else:
                log.warning("run_lost", requests=len(record.keys), first=str(record.keys[0]) if record.keys else None)
                self._service.ledger.add_unended(record.keys, record.run)
                self._service.run_records.remove(record.run)
        return running

    def _enqueue_again(self, queue: str, entries: Sequence[LedgerEntry]) -> bool:
        """Enqueue entries again; return whether Redis accepted the messages.

        Suspects get messages of their own, so that no other request is lost with them.
        """
        self._claims.release(entry["_id"] for entry in entries)
        groups = list(groups_by_suspicion(entries))
        size = self._settings.chunk_size
        accepted = [self._service.wake(queue, together, size) for together in groups if len(together) > 1]
        accepted.append(self._service.wake(queue, [group[0] for group in groups if len(group) == 1], 1))
        if all(accepted):
            self.report.re_enqueued += len(entries)
        return all(accepted)

    def _enqueue_due(self) -> None:
        """Enqueue requests that are due. An organization with few of them does not wait behind the others."""
        now = self._service.clock.now()
        changes = {"$set": {"enqueuedAt": now, "queue": BULK}, "$rename": {"notBefore": "dueAt"}}
        allowance = Allowance(INTERACTIVE_PER_SECOND)
        for entries in self._take(due_by(now), changes, "notBefore"):
            few = {entry["_id"]: entry for entry in entries if allowance.take(entry["organizationId"])}
            with store_errors():
                ids = {"_id": {"$in": list(few)}}
                self._ledger.update_many({**ids, **enqueued_in(BULK)}, {"$set": {"queue": INTERACTIVE}})
            self._service.wake(INTERACTIVE, list(few.values()), 1)
            others = [entry for entry in entries if entry["_id"] not in few]
            self._service.wake(BULK, others, self._settings.chunk_size)
            self.report.due += len(entries)

    def _take(self, condition: Document, changes: Document, order: str) -> Iterable[Sequence[LedgerEntry]]:
        """Change entries in batches; yield, as they were before, those that this sweep has changed and no other."""
        for _ in range(_MAX_CHANGED // _BATCH):
            with store_errors():
                batch = list(self._ledger.find(condition).sort(order, 1).limit(_BATCH))
                if not batch:
                    return
                self._claims.check()  # else they would be marked, not enqueued, and lost for as long again
                mark = uuid4().hex
                ids = {"_id": {"$in": [entry["_id"] for entry in batch]}}
                marked = {**changes, "$set": {**changes["$set"], "sweptBy": mark}}
                taken: list[LedgerEntry] = batch
                if self._ledger.update_many({**ids, **condition}, marked).modified_count < len(batch):
                    mine = set(self._ledger.find({**ids, "sweptBy": mark}).distinct("_id"))
                    taken = [entry for entry in batch if entry["_id"] in mine]
            yield taken
            if len(batch) < _BATCH or self._budget.is_over:
                return

    # --- events ---------------------------------------------------------------------------------------

    def _emit_unsent(self) -> None:
        """Emit unsent events of requests that finished so long ago that no run will emit them any more."""
        now = self._service.clock.now()
        for finished in ({"$lt": now - self._settings.lost_after}, {"$gt": now + _AHEAD}):
            self._emit_marked({**UNSENT, "finishedAt": finished}, now)
            self._emit_noted(finished, now)

    def _emit_marked(self, condition: Document, now: datetime) -> None:
        """Emit the events of entries with `unsent`."""
        for _ in range(_MAX_CHANGED // _BATCH):
            with store_errors():
                at_majority = self._service.ledger.at_majority
                entries = list(at_majority.find(condition).sort("finishedAt", 1).limit(_BATCH))
            if entries:
                self._service.events.emit(entries)
                self._replay.note_late(entries[0]["finishedAt"], now)
                # Written at majority; otherwise the next read at majority would find them unsent again.
                self._service.ledger.finish(entries, weakly=False)
                self.report.emitted += len(entries)
            if len(entries) < _BATCH or self._budget.is_over:
                return

    def _emit_noted(self, at: Document, now: datetime) -> None:
        """Emit the events of decisions in the outbox."""
        for _ in range(_MAX_CHANGED // _BATCH):
            decisions = self._service.ledger.outbox.oldest(at, _BATCH)
            if not decisions:
                return
            loaded = self._service.ledger.load([key for decision in decisions for key in decision.requests])
            # Just after an election, a read at majority may not show yet that a request is decided. A later one will.
            unseen = {entry["_id"] for entry in loaded if is_open(entry)}
            settled = [each for each in decisions if now - each.at > _ELECTION or unseen.isdisjoint(each.requests)]
            if entries := [with_fields(entry, unsent=True) for entry in loaded if has_event(entry)]:
                self._service.events.emit(entries)
                self._replay.note_late(decisions[0].at, now)
            self._service.ledger.finish_late(settled)
            self.report.emitted += len(entries)
            if self._budget.is_over or len(settled) < len(decisions):
                return

    def _replay_lost(self) -> None:
        self.report.replayed = self._replay(self._budget)

    # --- retention ------------------------------------------------------------------------------------

    def _trim_streams(self) -> None:
        self._service.events.trim(self._settings.events_retention)

    def _count(self) -> None:
        CountUpkeep(self._service)(self._budget)

    def _strip_ledger(self) -> None:
        self.report.stripped = Retention(self._service)(self._budget)

    def _expire_snapshots(self) -> None:
        self.report.expiring = Expiry(self._service).accept_due(self._budget.share(_EXPIRY_SECONDS))


def _rotated(names: list[str], first: str | None) -> list[str]:
    """Return the names in order, beginning with `first` if it is one of them."""
    start = names.index(first) if first in names else 0
    return names[start:] + names[:start]
