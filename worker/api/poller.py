"""Waits for outcomes: one poller for all POSTs of the process.

It reads MongoDB rather than Redis, so it works while Redis is down. The interval between two reads of a request grows
with the time it has waited; all requests that are due share one read. While few requests wait, an event in Redis makes
its request due at once.
"""

import asyncio
import heapq
import itertools
import time
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass
from typing import cast

import pymongo
from bson import ObjectId
from pymongo.read_concern import ReadConcern

from worker.api.batcher import FEW, pause_for
from worker.api.event_watch import EventWatch
from worker.api.responses import DATES_WITHOUT_ZONE, encode
from worker.domain.ledger_entry import ACCEPTED, COMPLETED, LedgerEntry
from worker.errors import TransientError
from worker.log import get_logger
from worker.service import Service
from worker.stores.connections import store_errors

log = get_logger(__name__)

_FIRST_SECONDS, _SHARE_OF_AGE, _MAX_SECONDS = 0.008, 0.2, 0.5
"""The time until a request is first read, the following intervals as a share of its age, and the longest interval."""
_ROUND_SECONDS, _MAX_ROUND_SECONDS = 0.004, 0.03
"""The shortest interval between two reads, with few and with many requests. Reads that are due within it are
combined."""
_FOLLOWED = 5 * FEW
"""Maximum number of waiting requests while events are followed. It is higher than the number at which that begins, so
that a number around the limit does not start and end it again and again."""
_MAX_BYTES = 32 * 1024 * 1024
"""Maximum size of the snapshots that one read returns, in bytes. The next read returns the rest."""


@dataclass(frozen=True, slots=True)
class PolledOutcome:
    """The outcome of a request, and its snapshot as JSON if it has one."""

    entry: LedgerEntry
    """The ledger entry with only its id, its status, and the snapshot's id or the error."""
    document: bytes | None


class OutcomePoller:
    """Waits for the outcomes of requests, by ledger id. One instance per process, used from its event loop.

    Example:
        outcome = await poller.wait(receipt.id, seconds=10)  # None: not finished yet
    """

    def __init__(self, service: Service, executor: Executor, events: EventWatch | None = None) -> None:
        """Without `events`, outcomes are only polled for."""
        self._service = service
        self._executor = executor
        self._events = events
        self._is_early = asyncio.Event()
        """Set when a request becomes due before its time."""
        self._awaited: dict[ObjectId, list[asyncio.Future[PolledOutcome]]] = defaultdict(list)
        self._schedule: list[tuple[float, int, float, ObjectId]] = []
        """A heap of (time of the next read, number, time since which it is awaited, request)."""
        self._numbers = itertools.count()
        self._newest: dict[ObjectId, int] = {}
        """The number of each request's newest item in the heap. Older ones, of callers that have left, are dropped when
        their time comes: otherwise clients that repeat a POST while no worker runs would add more and more."""
        self._running: asyncio.Task[None] | None = None

    def awaited(self) -> int:
        """Return the number of requests whose outcome is awaited."""
        return len(self._awaited)

    async def wait(self, request: ObjectId, seconds: float) -> PolledOutcome | None:
        """Wait for the outcome of a request.

        Args:
            request: The ledger id.
            seconds: How long to wait.

        Returns:
            The outcome, or None if there is none in that time. While MongoDB is down, the wait continues.
        """
        future: asyncio.Future[PolledOutcome] = asyncio.get_running_loop().create_future()
        if not self._is_awaited(request):
            now = time.monotonic()
            self._read_at(now + _FIRST_SECONDS, now, request)
        self._awaited[request].append(future)
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        if self._events and self._has_few():
            self._events.start(self._read_now, self._follows_events)
        try:
            async with asyncio.timeout(seconds):
                return await future
        except TimeoutError:
            return None
        finally:
            self._forget(request, future)

    def _read_at(self, due: float, since: float, request: ObjectId) -> None:
        self._newest[request] = number = next(self._numbers)
        heapq.heappush(self._schedule, (due, number, since, request))

    def _read_now(self, request: ObjectId) -> None:
        if request in self._awaited:
            now = time.monotonic()
            self._read_at(now, now, request)
            self._is_early.set()

    def _is_awaited(self, request: ObjectId) -> bool:
        """Return whether a caller still waits. One that has its outcome stays in the list until its task goes on."""
        return any(not future.done() for future in self._awaited.get(request, ()))

    def _has_few(self) -> bool:
        return 0 < len(self._awaited) <= FEW

    def _follows_events(self) -> bool:
        """Return whether so few requests are awaited that following all events costs less than it saves."""
        return 0 < len(self._awaited) <= _FOLLOWED

    def _forget(self, request: ObjectId, future: asyncio.Future[PolledOutcome]) -> None:
        if futures := self._awaited.get(request):
            futures.remove(future)
            if not futures:
                del self._awaited[request]

    async def _run(self) -> None:
        try:
            while self._schedule:
                await self._pause()
                try:
                    await self._poll(self._due())
                except TransientError as error:
                    log.info("outcomes_delayed", code=error.code, reason=error.message)
                except Exception:
                    # The requests are scheduled again: an error must not end the poller, on which every POST waits.
                    log.exception("outcomes_unreadable")
        finally:
            self._running = None

    async def _pause(self) -> None:
        """Wait until the next request is due, or becomes due early."""
        with suppress(TimeoutError):
            async with asyncio.timeout(max(self._schedule[0][0] - time.monotonic(), self._round_seconds())):
                await self._is_early.wait()
        self._is_early.clear()

    async def _poll(self, requests: list[ObjectId]) -> None:
        if not requests:
            return
        outcomes = await asyncio.get_running_loop().run_in_executor(self._executor, self.read, requests)
        for outcome in outcomes:
            for future in self._awaited.get(outcome.entry["_id"], ()):
                if not future.done():
                    future.set_result(outcome)

    def _round_seconds(self) -> float:
        return pause_for(len(self._awaited), _ROUND_SECONDS / FEW, _MAX_ROUND_SECONDS) or _ROUND_SECONDS

    def _due(self) -> list[ObjectId]:
        """Return the requests to read now, and schedule each of them again."""
        now = time.monotonic()
        due: list[tuple[float, ObjectId]] = []
        while self._schedule and self._schedule[0][0] <= now + _ROUND_SECONDS:
            _, number, since, request = heapq.heappop(self._schedule)
            if self._newest.get(request) != number:
                continue
            if self._is_awaited(request):
                due.append((since, request))
            else:
                del self._newest[request]
        for since, request in due:
            self._read_at(now + min(max(_SHARE_OF_AGE * (now - since), _ROUND_SECONDS), _MAX_SECONDS), since, request)
        return [request for _, request in due]

    def read(self, requests: Iterable[ObjectId]) -> list[PolledOutcome]:
        """Read the outcomes that are majority committed. Raises StoreUnavailable, StoreConflict.

        Most requests completed in a transaction that inserted a snapshot with the request's id. So snapshots are read
        first, and the ledger only for the other requests.
        """
        wanted = set(requests)
        fields = dict.fromkeys(("status", "error", "snapshotId", "deletedAt"), 1)
        with store_errors(), pymongo.timeout(5):
            own, unread = self._read_snapshots(wanted)
            left = wanted - own.keys() - unread
            finished = {"_id": {"$in": list(left)}, "status": {"$ne": ACCEPTED}}
            entries = list(self._service.ledger.at_majority.find(finished, fields)) if left else []
            made = [entry for entry in entries if entry.get("snapshotId") and not entry.get("deletedAt")]
            documents, unread = self._read_snapshots({entry["snapshotId"] for entry in made})
        return [PolledOutcome(_completed(key), document) for key, document in own.items()] + [
            PolledOutcome(entry, documents.get(entry["snapshotId"]) if entry.get("snapshotId") else None)
            for entry in entries
            if entry.get("snapshotId") not in unread
        ]

    def _read_snapshots(self, wanted: set[ObjectId]) -> tuple[dict[ObjectId, bytes], set[ObjectId]]:
        """Return snapshots as JSON by id, and the ids that did not fit into this read. Any other id does not exist."""
        if not wanted:
            return {}, set()
        snapshots = self._service.snapshots.collection.with_options(
            DATES_WITHOUT_ZONE, read_concern=ReadConcern("majority")
        )
        documents: dict[ObjectId, bytes] = {}
        size = 0
        for document in snapshots.find({"_id": {"$in": list(wanted)}}):
            documents[document["_id"]] = encoded = encode(document)
            size += len(encoded)
            if size > _MAX_BYTES:
                return documents, wanted - documents.keys()
        return documents, set()


def _completed(request: ObjectId) -> LedgerEntry:
    return cast("LedgerEntry", {"_id": request, "status": COMPLETED, "snapshotId": request})
