"""A batch of intake entries taken in: decode → accept → publish → settle."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from worker.closings.accept import Closings, LeftOut
from worker.domain.requests import ConversationResolved
from worker.errors import NotResolvedYet, SnapshotError, TransientError, Unexpected
from worker.intake.entries import REQUESTED, RESOLVED, read_entry
from worker.intake.stream import Entry, IntakeStream
from worker.log import get_logger
from worker.service import Asked, Receipt, Service
from worker.stores.bisect import in_halves
from worker.stores.wakeups import BULK, INTERACTIVE
from worker.telemetry.counters import IntakeCounts

log = get_logger(__name__)

Item = TypeVar("Item")
Read = list[tuple[Entry, Item]]
"""Entries with what they ask for."""

_LIGHT = 16
"""Requests, read or waiting for a worker, up to which each gets a message of its own."""
_PARTS = 4
"""Messages that a batch under pressure makes at least, for several workers, as long as they are not tiny."""
_SMALLEST_CHUNK = 10
_GIVEN_UP_MS = 60_000
"""Age at which an entry is rejected whose conversation is still not resolved, or that breaks our own code."""


@dataclass
class _Batch:
    """What is to become of the entries."""

    done: list[str] = field(default_factory=list)
    refused: list[tuple[Entry, SnapshotError]] = field(default_factory=list)
    left: list[tuple[Entry, SnapshotError]] = field(default_factory=list)
    receipts: list[Receipt] = field(default_factory=list)


class Intake:
    """Takes in batches of entries that this consumer was given."""

    def __init__(self, service: Service, stream: IntakeStream, counts: IntakeCounts) -> None:
        self._service = service
        self._stream = stream
        self._counts = counts
        self._closings = Closings(service)

    def is_pressed(self, entries: int, waiting: int) -> bool:
        """Whether so many new entries, and messages before them, call for chunks instead of single messages."""
        return entries + waiting > _LIGHT

    def __call__(self, entries: Sequence[Entry], waiting: int = 0) -> int:
        """How many stay pending, to be tried again. `waiting`: messages in the queue of single ones.

        Raises BrokerUnavailable, and StoreUnavailable when MongoDB is down: then all of them stay pending.
        """
        queue = BULK if self.is_pressed(len(entries), waiting) else INTERACTIVE
        batch = _Batch()
        requests, closings = self._decode(entries, queue, batch)
        self._sort(REQUESTED, requests, self._accept(self._service.accept, requests), batch)
        self._sort(RESOLVED, closings, self._accept(self._closings.accept, closings), batch)
        self._publish(batch.receipts, len(entries))
        self._give_up(batch)
        self._settle(batch)
        return len(batch.left)

    # --- decode ---------------------------------------------------------------------------------------

    def _decode(
        self, entries: Iterable[Entry], queue: str, batch: _Batch
    ) -> tuple[Read[Asked], Read[ConversationResolved]]:
        """Requests and closings; what cannot be read is refused."""
        requests: Read[Asked] = []
        closings: Read[ConversationResolved] = []
        for entry in entries:
            if entry.fields is None:
                log.error("intake_entries_lost", count=1, ids=[entry.id])
                self._counts.lost(1)
                batch.done.append(entry.id)
                continue
            try:
                asked = read_entry(entry.fields, entry.id, self._service.settings, queue)
            except SnapshotError as error:
                batch.refused.append((entry, error))
                continue
            if isinstance(asked, Asked):
                requests.append((entry, asked))
            else:
                closings.append((entry, asked))
        return requests, closings

    # --- accept ---------------------------------------------------------------------------------------

    def _accept(self, accept: Callable[[Sequence[Item]], Sequence[Any]], read: Read[Item]) -> list[Any]:
        return in_halves(accept, [each for _, each in read], self._service.connections)

    def _sort(self, kind: str, read: Read[Any], results: Sequence[Any], batch: _Batch) -> None:
        """What was accepted or left out is done, what never will be is refused, the rest stays pending."""
        before = len(batch.receipts)
        for (entry, _), result in zip(read, results, strict=True):
            if isinstance(result, TransientError):
                batch.left.append((entry, result))
            elif isinstance(result, SnapshotError):
                batch.refused.append((entry, result))
            else:
                batch.done.append(entry.id)
                if isinstance(result, Receipt):
                    batch.receipts.append(result)
                elif isinstance(result, LeftOut) and result.first:
                    self._counts.left_out(result.reason)
        self._counts.accepted(kind, len(batch.receipts) - before)

    # --- publish, settle ------------------------------------------------------------------------------

    def _publish(self, receipts: Iterable[Receipt], entries: int) -> None:
        """Wakes workers up; where that fails, the sweep does it. Chunks grow with the batch."""
        by_queue: dict[str, list[Any]] = {}
        # Two entries of one closing have the same receipt.
        for receipt in {each.id: each for each in receipts if each.created}.values():
            if queue := receipt.entry.get("queue"):
                by_queue.setdefault(queue, []).append(receipt.entry)
        for queue, accepted in by_queue.items():
            chunk = max(_SMALLEST_CHUNK, -(-entries // _PARTS))
            self._service.wake(
                queue, accepted, 1 if queue == INTERACTIVE else min(chunk, self._service.settings.chunk_size)
            )

    def _give_up(self, batch: _Batch) -> None:
        """Of what is left, refuses what has had its time, by Redis's clock alone."""
        limited = [pair for pair in batch.left if isinstance(pair[1], NotResolvedYet | Unexpected)]
        if not limited:
            return
        oldest = self._stream.now() - _GIVEN_UP_MS
        over = {entry.id for entry, _ in limited if entry.milliseconds <= oldest}
        batch.refused += [pair for pair in batch.left if pair[0].id in over]
        batch.left = [pair for pair in batch.left if pair[0].id not in over]

    def _settle(self, batch: _Batch) -> None:
        moved = self._stream.settle(batch.done, batch.refused)
        for (entry, error), was_moved in zip(batch.refused, moved, strict=True):
            if was_moved is None:
                log.warning("reject_failed", origin=entry.id)
                batch.left.append((entry, error))
            elif was_moved:
                self._counts.rejected(error.code)
                # The message names fields and limits, never what was in them.
                log.warning("request_rejected", code=error.code, reason=error.message, origin=entry.id)
