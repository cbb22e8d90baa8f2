"""Processes a batch of intake entries: decode → accept → enqueue → settle (acknowledge or reject)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from worker.closings.accept import Closings
from worker.domain.fair_shares import smallest
from worker.domain.requests import ConversationResolved
from worker.errors import InvalidRequest, NotResolvedYet, SnapshotError, TransientError, UnexpectedError
from worker.intake.entries import REQUESTED, RESOLVED, TASK_FIELD, read_entry
from worker.intake.scripts import MAX_FIELDS
from worker.intake.stream import IntakeEntry, IntakeStream
from worker.log import get_logger
from worker.service import NewRequest, Receipt, Service
from worker.stores.bisect import bisect
from worker.stores.wakeups import BULK, INTERACTIVE
from worker.telemetry.counters import IntakeCounts

log = get_logger(__name__)

Item = TypeVar("Item")
Decoded = list[tuple[IntakeEntry, Item]]
"""Entries, each with the request or closing that was read from it."""

INTERACTIVE_LIMIT = 16
"""Up to this many requests, new or waiting for a worker, each request gets a message of its own."""
CHUNKS = 4
"""A larger batch is split into at least this many messages, for several workers, unless they would be tiny or as many
already wait in the bulk queue."""
SMALLEST_CHUNK = 10
_GIVE_UP_MS = 60_000
"""Age at which an entry is rejected if its conversation is still not resolved, or if it still causes an unexpected
error."""
_CLOCK_STEP_MS = 60_000
"""An entry id further in the future was chosen by a producer, or follows such an id. It says nothing about the entry's
age."""


@dataclass
class _Outcome:
    """The results of a batch: the entries to acknowledge, to reject, and to leave pending."""

    done: list[str] = field(default_factory=list)
    rejected: list[tuple[IntakeEntry, SnapshotError]] = field(default_factory=list)
    pending: list[tuple[IntakeEntry, SnapshotError]] = field(default_factory=list)


class Intake:
    """Accepts or rejects the entries that were delivered to this consumer, in batches, and acknowledges them.

    An entry that cannot be processed now stays pending, so that it is delivered again.
    """

    def __init__(self, service: Service, stream: IntakeStream, counts: IntakeCounts) -> None:
        self._service = service
        self._stream = stream
        self._counts = counts
        self._closings = Closings(service, counts)

    def needs_chunks(self, entries: int, waiting: int) -> bool:
        """Return whether to enqueue chunks instead of single messages, given the new entries and the queue's length."""
        return entries + waiting > INTERACTIVE_LIMIT

    def __call__(self, entries: Sequence[IntakeEntry], waiting: int = 0) -> int:
        """Process a batch; return how many entries stay pending and have to be tried again.

        `waiting` is the number of messages in the interactive queue. Raises BrokerUnavailable, or StoreUnavailable if
        MongoDB is down. After an error, all entries stay pending.
        """
        queue = BULK if self.needs_chunks(len(entries), waiting) else INTERACTIVE
        outcome = _Outcome()
        requests, closings = self._decode(entries, queue, outcome)
        if len(entries) > INTERACTIVE_LIMIT:
            requests = _prefer_small_organizations(requests)
        self._accept_requests(requests, len(entries), outcome)
        self._accept_closings(closings, outcome)
        self._give_up(outcome)
        self._settle(outcome)
        return len(outcome.pending)

    def reject(self, entry: IntakeEntry, error: SnapshotError) -> None:
        """Reject an entry without reading its content."""
        if entry.fields is None:
            self._settle(_Outcome(done=[entry.id]))
        else:
            self._settle(_Outcome(rejected=[(entry, error)]))

    # --- decode ---------------------------------------------------------------------------------------

    def _decode(
        self, entries: Iterable[IntakeEntry], queue: str, outcome: _Outcome
    ) -> tuple[Decoded[NewRequest], Decoded[ConversationResolved]]:
        """Return the requests and the closings. Entries that cannot be read are rejected."""
        requests: Decoded[NewRequest] = []
        closings: Decoded[ConversationResolved] = []
        for entry in entries:
            if entry.fields is None:
                log.error("intake_entries_lost", count=1, ids=[entry.id])
                self._counts.lost(1)
                outcome.done.append(entry.id)
                continue
            try:
                _check_size(entry, self._service.settings.max_entry_bytes)
                decoded = read_entry(entry.fields, entry.id, self._service.settings, queue)
            except SnapshotError as error:
                outcome.rejected.append((entry, error))
                continue
            if isinstance(decoded, NewRequest):
                requests.append((entry, decoded))
            else:
                closings.append((entry, decoded))
        return requests, closings

    # --- accept, publish ------------------------------------------------------------------------------

    def _accept_requests(self, requests: Decoded[NewRequest], batch_size: int, outcome: _Outcome) -> None:
        results = bisect(self._service.accept, [request for _, request in requests], self._service.connections)
        accepted = self._sort(requests, results, outcome)
        self._counts.accepted(REQUESTED, accepted)
        self._publish([each for each in results if isinstance(each, Receipt)], batch_size)

    def _accept_closings(self, closings: Decoded[ConversationResolved], outcome: _Outcome) -> None:
        tally = self._closings.submit([closing for _, closing in closings])
        self._counts.accepted(RESOLVED, self._sort(closings, tally.results, outcome))

    def _sort(self, decoded: Decoded[Any], results: Sequence[object], outcome: _Outcome) -> int:
        """Add the entries to the outcome by their results; return how many have a request."""
        for (entry, _), result in zip(decoded, results, strict=True):
            if isinstance(result, TransientError):
                outcome.pending.append((entry, result))
            elif isinstance(result, SnapshotError):
                outcome.rejected.append((entry, result))
            else:
                outcome.done.append(entry.id)
        return sum(isinstance(result, Receipt) for result in results)

    def _publish(self, receipts: Sequence[Receipt], batch_size: int) -> None:
        """Enqueue the new requests, in chunks that grow with the batch. If that fails, the sweep does it."""
        is_bulk = any(receipt.created and receipt.entry.get("queue") == BULK for receipt in receipts)
        parts = 1 if is_bulk and self._stream.bulk_waiting() >= CHUNKS else CHUNKS
        chunk = max(SMALLEST_CHUNK, -(-batch_size // parts))
        self._service.enqueue(receipts, min(chunk, self._service.settings.chunk_size))

    # --- settle ---------------------------------------------------------------------------------------

    def _give_up(self, outcome: _Outcome) -> None:
        """Reject pending entries that are too old by Redis's clock, or whose age is unknown."""
        limited = [pair for pair in outcome.pending if isinstance(pair[1], NotResolvedYet | UnexpectedError)]
        if not limited:
            return
        now = self._stream.now()
        ages = {entry.id: now - entry.milliseconds for entry, _ in limited}
        limits = {entry.id: self._patience(entry) for entry, _ in limited}
        expired = {key for key, age in ages.items() if not -_CLOCK_STEP_MS <= age < limits[key]}
        outcome.rejected += [pair for pair in outcome.pending if pair[0].id in expired]
        outcome.pending = [pair for pair in outcome.pending if pair[0].id not in expired]

    def _patience(self, entry: IntakeEntry) -> float:
        """Return the age in ms at which an entry is given up: if it was a Celery message, not before its task would."""
        if TASK_FIELD not in (entry.fields or {}):
            return _GIVE_UP_MS
        return max(_GIVE_UP_MS, 1000 * self._service.settings.parent_wait.total_seconds())

    def _settle(self, outcome: _Outcome) -> None:
        moved = self._stream.settle(outcome.done, outcome.rejected)
        for (entry, error), was_moved in zip(outcome.rejected, moved, strict=True):
            if was_moved is None:
                log.warning("reject_failed", code=error.code, origin=entry.id)
                outcome.pending.append((entry, error))
            elif was_moved:
                self._counts.rejected(error.code)
                # The message names fields and limits, never what an entry contains.
                log.warning("request_rejected", code=error.code, reason=error.message, origin=entry.id)


def _prefer_small_organizations(requests: Decoded[NewRequest]) -> Decoded[NewRequest]:
    """In a large batch, move the requests of the organizations with the fewest to the interactive queue."""
    preferred = smallest((request.request.organization_id for _, request in requests), INTERACTIVE_LIMIT)
    return [
        (entry, replace(request, queue=INTERACTIVE) if request.request.organization_id in preferred else request)
        for entry, request in requests
    ]


def _check_size(entry: IntakeEntry, limit: int) -> None:
    if entry.size > limit:
        message = f"should have at most {limit} bytes, but has {entry.size}"
    elif entry.field_count > MAX_FIELDS:
        message = f"should have at most {MAX_FIELDS} fields, but has {entry.field_count}"
    else:
        return
    raise InvalidRequest([{"field": "entry", "message": message}])
