"""The sweep: repairs what was lost between the ledger and Redis.

Every few seconds: requests whose wake-up call is gone are called again; those whose time has come are
called; events that did not go out are emitted; and if Redis lost data, what it lost is emitted again.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import uuid4

import pymongo
from pymongo.collection import Collection

from worker.domain.requests import COMPLETED, FAILED
from worker.errors import TransientError
from worker.log import get_logger
from worker.service import Service
from worker.stores.claims import Claims
from worker.stores.connections import Document, store_errors
from worker.stores.ledger import OPEN
from worker.stores.wakeups import BULK, REQUEST_QUEUES, Queues
from worker.sweep.replay import Resending
from worker.sweep.retention import Retention

log = get_logger(__name__)

_BATCH = 500
_AHEAD = timedelta(minutes=1)
"""A time so far ahead was by the clock of a primary of before; a countdown's is 30 s ahead at most."""
_MOST = 20_000
"""Entries of one kind that one sweep repairs; the next goes on."""


@dataclass
class Swept:
    """What one sweep did: counts of requests and events."""

    called_again: int = 0
    due: int = 0
    emitted: int = 0
    resent: int = 0
    stripped: int = 0


class Sweep:
    """One sweep. Any number may run at once: each entry is taken by compare-and-set."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._settings = service.settings
        self._queues = Queues(service.connections)
        self._claims = Claims(service.connections)
        self._resending = Resending(service)
        self._done = Swept()

    @property
    def _ledger(self) -> Collection[Document]:
        return self._service.ledger.collection

    def __call__(self) -> Swept:
        """Every repair in turn; one that fails does not keep the others from theirs. Raises the first fault."""
        faults: list[TransientError] = []
        repairs = (self._call_again, self._call_due, self._emit_unsent, self._resend_lost, self._trim, self._strip)
        for repair in repairs:
            try:
                with pymongo.timeout(self._settings.run_deadline.total_seconds()):
                    repair()
            except TransientError as error:
                log.warning("repair_failed", repair=repair.__name__.strip("_"), code=error.code, reason=error.message)
                faults.append(error)
        if faults:
            raise faults[0]
        return self._done

    # --- wake-up calls --------------------------------------------------------------------------------

    def _call_again(self) -> None:
        """Lost: accepted, and enqueued clearly earlier than the oldest message that still waits."""
        for queue in REQUEST_QUEUES:
            oldest = self._queues.oldest_stamp(queue)
            now = self._service.clock.now()
            waiting_since = min(oldest, now) if oldest else now
            if waiting_since.year == 1:
                continue
            lost_before = waiting_since - self._settings.lost_after
            again = {"$set": {"enqueuedAt": now}, "$inc": {"swept": 1}}
            for lost in ({"$lt": lost_before}, {"$gt": now + _AHEAD}):
                for taken in self._take({**OPEN, "queue": queue, "enqueuedAt": lost}, again, "enqueuedAt"):
                    self._wake(queue, taken)

    def _wake(self, queue: str, taken: Sequence[Document]) -> None:
        """Those that may have killed a worker get a message of their own, beside which nothing is lost."""
        self._claims.release(each["_id"] for each in taken)
        alone = [each for each in taken if each.get("swept", 0) > 1]
        together = [each for each in taken if each.get("swept", 0) <= 1]
        self._service.wake(queue, together, self._settings.chunk_size)
        self._service.wake(queue, alone, 1)
        self._done.called_again += len(taken)

    def _call_due(self) -> None:
        """Requests that were to wait are enqueued once their time has come."""
        now = self._service.clock.now()
        condition = {**OPEN, "queue": None, "enqueuedAt": None, "notBefore": {"$lte": now}}
        change = {"$set": {"enqueuedAt": now, "queue": BULK}, "$rename": {"notBefore": "dueAt"}}
        for taken in self._take(condition, change, "notBefore"):
            self._service.wake(BULK, taken, self._settings.chunk_size)
            self._done.due += len(taken)

    def _take(self, condition: Document, change: Document, order: str) -> Iterable[Sequence[Document]]:
        """Batches of entries that this sweep, and no other, has changed."""
        for _ in range(_MOST // _BATCH):
            with store_errors():
                found = list(self._ledger.find(condition).sort(order, 1).limit(_BATCH))
                if not found:
                    return
                mark = uuid4().hex
                ids = {"_id": {"$in": [each["_id"] for each in found]}}
                marked = {**change, "$set": {**change["$set"], "sweptBy": mark}}
                count = self._ledger.update_many({**ids, **condition}, marked).modified_count
                taken = found if count == len(found) else list(self._ledger.find({**ids, "sweptBy": mark}))
            if taken is found:
                taken = [{**each, "swept": each.get("swept", 0) + 1} for each in found]
            yield taken
            if len(found) < _BATCH:
                return

    # --- events ---------------------------------------------------------------------------------------

    def _emit_unsent(self) -> None:
        """The outbox: finished long enough ago that no run is still about to emit it."""
        now = self._service.clock.now()
        for finished in ({"$lt": now - self._settings.lost_after}, {"$gt": now + _AHEAD}):
            self._emit_finished(finished, now)

    def _emit_finished(self, finished: Document, now: datetime) -> None:
        condition = {"status": {"$in": [COMPLETED, FAILED]}, "unsent": True, "finishedAt": finished}
        for _ in range(_MOST // _BATCH):
            with store_errors():
                entries = list(self._service.ledger.at_majority.find(condition).sort("finishedAt", 1).limit(_BATCH))
            if entries:
                self._send(entries, now)
                self._done.emitted += len(entries)
            if len(entries) < _BATCH:
                return

    def _send(self, entries: Sequence[Document], at: datetime) -> None:
        self._service.events.emit(entries)
        self._resending.note_late(entries[0]["finishedAt"], at)
        # Durably: the next look, at majority, would else find them unsent still.
        self._service.ledger.finish(entries, weakly=False)

    def _resend_lost(self) -> None:
        self._done.resent = self._resending()

    # --- what has had its time --------------------------------------------------------------------------

    def _trim(self) -> None:
        self._service.events.trim(self._settings.events_retention)

    def _strip(self) -> None:
        self._done.stripped = Retention(self._service)()
