"""A run: what a worker does with the requests that one message names.

    load → fetch → assemble → decide → emit → finish

A chunk costs two reads, one transaction, one pipelined emit and one update, whatever its size, and one bad
request in it fails alone. What cannot be decided now is handed back, to be tried again.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Any

import pymongo
from bson import ObjectId

from worker.domain.assembly import Conversation, Snapshot, assemble
from worker.domain.requests import ACCEPTED
from worker.domain.retries import GiveUp, after, may_still_come
from worker.errors import (
    ContactNotFound,
    ConversationNotFound,
    DeadlineExceeded,
    PermanentError,
    SnapshotError,
    StoreUnavailable,
    TransientError,
    Unexpected,
    WorkerLost,
)
from worker.log import get_logger
from worker.runs.commit import Decider, Made, Outcome, Postponed
from worker.runs.supersede import Previous, Unchanged, turn, waits
from worker.service import Service
from worker.source.conversations import Fetched, as_awaited
from worker.stores.ledger import Failure

log = get_logger(__name__)

Entry = Mapping[str, Any]
_END_SECONDS = 2
_POSTPONE_SECONDS = 2
_ROUND_TRIP_SECONDS = 0.1
"""PyMongo gives up when less than a round trip is left of the run."""


class Run:
    """One run over the requests of one message."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._settings = service.settings
        self._outcome = Outcome()
        self._undecided: dict[ObjectId, Entry] = {}
        self._decide = Decider(service, self._undecided, self._outcome)
        self._id = ObjectId()
        self._begun: set[ObjectId] = set()
        self._previous: dict[ObjectId, Previous] = {}
        self._stop_at = 0.0

    def __call__(self, ids: Sequence[ObjectId], redelivered: bool = False) -> Outcome:
        """Decides what it can of these requests within the run deadline, and postpones the rest.

        `redelivered`: the broker says that this message was delivered before. Raises StoreUnavailable.
        """
        self._stop_at = time.monotonic() + self._settings.run_deadline.total_seconds()
        try:
            self._all(ids, redelivered)
        finally:
            self.end_counted()
        return self._outcome

    def _deadline(self) -> AbstractContextManager[None]:
        """What is left of the run. A pymongo.timeout within it can only be shorter; 0 would mean none at all."""
        return pymongo.timeout(max(0.001, self._stop_at - time.monotonic()))

    def _is_over(self) -> bool:
        return time.monotonic() >= self._stop_at - _ROUND_TRIP_SECONDS

    def _all(self, ids: Sequence[ObjectId], redelivered: bool) -> None:
        with self._deadline():
            entries = self._service.ledger.load(ids)
            self._decide.emit([each for each in entries if each.get("unsent")])
        self._undecided |= {each["_id"]: each for each in entries if each["status"] == ACCEPTED}
        clean: list[Entry] = []
        suspects: list[Entry] = []
        for entry in self._undecided.values():
            repeated = redelivered or entry.get("swept") or entry.get("unended")
            (suspects if repeated else clean).append(entry)
        if clean:
            self._attempt(clean)
        if suspects:
            self._suspects(suspects)

    # --- who may have killed a worker runs alone ------------------------------------------------------

    def _suspects(self, entries: list[Entry]) -> None:
        """Those delivered before: together the first time, alone from then on, the least suspect first."""
        if first := [each for each in entries if not each.get("unended")]:
            self._counted(first)
        for entry in sorted(entries, key=lambda each: each.get("unended", 0)):
            count = entry.get("unended", 0)
            if not count:
                continue
            if self._is_over():
                self._hand_back_untried([entry])
            elif count + 1 >= self._settings.worker_lost_after:
                with self._deadline():
                    self._decide([], [Failure(entry, WorkerLost(deliveries=count + 1))])
            else:
                self._counted([entry])

    def _counted(self, entries: list[Entry]) -> None:
        """Counts the delivery as unended while it lasts: a worker that dies in it leaves the count behind."""
        if self._is_over():
            self._hand_back_untried(entries)
            return
        ids = [each["_id"] for each in entries]
        self._begun.update(ids)  # before: an answer that is lost leaves open whether they are counted
        with self._deadline():
            self._service.ledger.begin_repeated(ids, self._id)
        self._attempt(entries)
        self.end_counted()

    def end_counted(self) -> None:
        """Takes the counts back. Where the store is down it keeps them; call again when it is back."""
        if not self._begun:
            return
        try:
            with pymongo.timeout(_END_SECONDS):
                self._service.ledger.end_repeated(list(self._begun), self._id)
        except TransientError as error:
            log.warning("unended_left", requests=len(self._begun), reason=error.message)
        else:
            self._begun.clear()

    # --- one attempt ------------------------------------------------------------------------------------

    def _attempt(self, entries: list[Entry]) -> None:
        """Fetches, assembles and decides; what meets a transient error is postponed, alone or in halves."""
        try:
            with self._deadline():
                if ready := self._in_turn(entries):
                    for slice_ in self._slices(self._service.conversations.fetch(ready)):
                        self._assemble(slice_)
        except StoreUnavailable:
            # A read that is too slow ends as a socket's timeout, just as a server that is away.
            if not self._is_over() or not self._service.connections.store_answers():
                raise
            self._postpone_rest(entries, DeadlineExceeded())
        except TransientError as error:
            self._postpone_rest(entries, error)
        except SnapshotError as error:
            log.error("attempt_broken", code=error.code, reason=error.message, requests=len(entries))
            self._postpone_rest(entries, Unexpected(f"{error.code}: {error.message}"))
        except Exception as error:
            # The boundary: whatever no one foresaw must still lead to an outcome of each request.
            log.exception("attempt_broken", code="unexpected", requests=len(entries))
            self._postpone_rest(entries, Unexpected(f"Unexpected {type(error).__name__}."))

    def _in_turn(self, entries: list[Entry]) -> list[Entry]:
        """Closings learn what they follow; those that an earlier, undecided one precedes are handed back."""
        found = turn(self._service, entries)
        self._previous |= found.previous
        if found.waiting:
            error, delay = waits(self._settings)
            self._hand_back(found.waiting, delay, error, counts=False)
        return found.ready

    def _slices(self, fetched: Iterator[Fetched]) -> Iterator[list[Fetched]]:
        """What is written together: up to `chunk_bytes` of messages."""
        slice_: list[Fetched] = []
        size = 0
        for entry, found in fetched:
            slice_.append((entry, found))
            if isinstance(found, Conversation) and found.messages:
                size += len(found.messages.encoded)
            if size >= self._settings.chunk_bytes:
                yield slice_
                slice_, size = [], 0
        if slice_:
            yield slice_

    def _assemble(self, fetched: list[Fetched]) -> None:
        now = self._service.clock.now()
        made: list[Made] = []
        failures: list[Failure] = []
        for entry, found in fetched:
            try:
                if isinstance(found, SnapshotError):
                    raise found
                made.append((entry, self._made_of(entry, found, now)))
            except (ContactNotFound, ConversationNotFound) as error:
                if may_still_come(_waiting_since(entry), now, self._settings):
                    self._postpone([entry], as_awaited(error))
                else:
                    failures.append(Failure(entry, error))
            except PermanentError as error:
                failures.append(Failure(entry, error))
        self._decide(made, failures)

    def _made_of(self, entry: Entry, found: Conversation, now: datetime) -> Snapshot | Unchanged:
        previous = self._previous.get(entry["_id"])
        snapshot = assemble(entry, found, now, previous.snapshot_id if previous else None)
        if previous and previous.content_hash == snapshot.content_hash:
            return Unchanged(previous.snapshot_id, snapshot.message_count)
        return snapshot

    # --- tried again ----------------------------------------------------------------------------------

    def _postpone_rest(self, entries: list[Entry], error: TransientError) -> None:
        """Several are halved until the one that is at fault stands alone; only then do attempts count.

        In a time of its own: the run's may be what was exceeded.
        """
        left = [each for each in entries if each["_id"] in self._undecided]
        with pymongo.timeout(_POSTPONE_SECONDS):
            if len(left) <= 1:
                self._postpone(left, error)
                return
            middle = len(left) // 2
            for half in (left[:middle], left[middle:]):
                self._hand_back(half, self._settings.retry_floor, error, counts=False)

    def _hand_back_untried(self, entries: list[Entry]) -> None:
        """The others of the message have used up its time."""
        with pymongo.timeout(_POSTPONE_SECONDS):
            self._hand_back(entries, self._settings.retry_floor, DeadlineExceeded(), counts=False)

    def _postpone(self, entries: list[Entry], error: TransientError) -> None:
        for entry in entries:
            match after(error, entry.get("attempts", 0), self._settings, awaited=entry.get("awaited", 0)):
                case GiveUp(final):
                    self._decide([], [Failure(entry, final)])
                case again:
                    self._hand_back([entry], again.delay, error, counts=True)

    def _hand_back(self, entries: list[Entry], delay: timedelta, error: TransientError, *, counts: bool) -> None:
        self._service.ledger.postpone(entries, self._service.clock.now() + delay, error, counts=counts)
        ids = [str(each["_id"]) for each in entries]
        for entry in entries:
            self._undecided.pop(entry["_id"], None)
        alike = [each for each in self._outcome.postponed if each.error.code == error.code]
        if counts and alike:
            alike[0].ids.extend(ids)
            alike[0].delay = max(alike[0].delay, delay)
        else:
            self._outcome.postponed.append(Postponed(ids, delay, error))


def _waiting_since(entry: Entry) -> datetime:
    moment: datetime = entry.get("redrivenAt") or entry.get("dueAt") or entry["acceptedAt"]
    return moment
