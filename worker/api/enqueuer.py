"""Publishes the wake-ups of accepted requests in bulk, while the requests wait for their outcomes.

With few requests in flight, each gets its own message without delay. With more, wake-ups are gathered for longer and
a message names more requests, so that workers process them as fast as chunks. While Redis is down, wake-ups are kept in
memory and published later; if this process dies, the sweep publishes them.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor

from worker.api.batcher import FEW, pause_for
from worker.domain.ledger_entry import LedgerEntry
from worker.errors import BrokerUnavailable
from worker.log import get_logger
from worker.service import Service
from worker.stores.wakeups import INTERACTIVE, REQUEST_QUEUES, chunks_of

log = get_logger(__name__)

_GATHER_EACH, _GATHER_MAX = 0.001, 0.05
"""How long to gather wake-ups, in seconds: for each request in flight, and the maximum."""
_MAX_IN_MESSAGE = 50
"""Maximum number of requests in a message. A worker processes a message as a whole, so more would delay callers."""
_RETRY_SECONDS = 1.0
"""Seconds between two attempts while Redis is down."""
_MAX_KEPT = 20_000
"""Maximum number of wake-ups to keep in memory while Redis is down."""


class Enqueuer:
    """Wakes workers for accepted requests. Call `start` on the event loop before anything is enqueued."""

    def __init__(self, service: Service, executor: Executor, in_flight: Callable[[], int]) -> None:
        self._service = service
        self._executor = executor
        self._in_flight = in_flight
        self._entries: list[LedgerEntry] = []
        self._running: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop

    def start(self) -> None:
        """Remember the event loop on which to publish."""
        self._loop = asyncio.get_running_loop()

    def enqueue(self, entries: Sequence[LedgerEntry]) -> None:
        """Wake workers for ledger entries soon. It can be called from any thread, and does not block."""
        self._loop.call_soon_threadsafe(self._add, entries)

    def _add(self, entries: Sequence[LedgerEntry]) -> None:
        self._entries += entries[: _MAX_KEPT - len(self._entries)]
        if self._running is None:
            self._running = asyncio.create_task(self._run())

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._entries:
                if seconds := pause_for(self._in_flight(), _GATHER_EACH, _GATHER_MAX):
                    await asyncio.sleep(seconds)
                entries, self._entries = self._entries, []
                if not await loop.run_in_executor(self._executor, self._publish, entries):
                    self._entries = (entries + self._entries)[:_MAX_KEPT]
                    await asyncio.sleep(_RETRY_SECONDS)
        except Exception:
            # The sweep enqueues what was not published.
            log.exception("enqueue_failed_unexpectedly", queue=INTERACTIVE)
        finally:
            self._running = None

    def _publish(self, entries: Sequence[LedgerEntry]) -> bool:
        """Publish wake-ups; return whether Redis accepted them."""
        size = 1 if len(entries) <= FEW else min(self._service.settings.chunk_size, _MAX_IN_MESSAGE)
        try:
            for queue in REQUEST_QUEUES:
                if own := [entry for entry in entries if entry["queue"] == queue]:
                    # The sweep treats requests as lost that are older than the oldest stamp in their queue.
                    stamp = min(entry["enqueuedAt"] for entry in own)
                    self._service.publish(queue, chunks_of(own, size), stamp)
        except BrokerUnavailable as error:
            log.warning("enqueue_failed", queue=queue, requests=len(entries), reason=error.message)
            return False
        return True
