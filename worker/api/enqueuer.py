"""Publishes the wake-up calls of what was accepted, in bulk, beside the requests that wait.

Few in flight: a message each, at once. The more are in flight, the longer calls are gathered and the more
one message names, so that the workers' rate becomes that of the bulk path. What Redis does not take is kept
and published when it is back; what this process forgets, the sweep calls.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any

from worker.api.batcher import FEW, pause_for
from worker.errors import BrokerUnavailable
from worker.log import get_logger
from worker.service import Service
from worker.stores.wakeups import INTERACTIVE, chunks_of

log = get_logger(__name__)

_GATHER = 0.001
"""Seconds of gathering for each request in flight."""
_LONGEST_GATHER = 0.05
_MOST_IN_A_MESSAGE = 50
"""A worker takes a message as a whole: longer ones would keep others waiting."""
_PAUSE = 1.0
"""Seconds between two attempts while Redis is down."""
_KEPT = 20_000
"""Calls that are kept then."""


class Waking:
    """`call` takes an accepted entry; the rest happens by itself."""

    def __init__(self, service: Service, executor: Executor, in_flight: Callable[[], int]) -> None:
        self._service = service
        self._executor = executor
        self._in_flight = in_flight
        self._entries: list[Mapping[str, Any]] = []
        self._running: asyncio.Task[None] | None = None

    def call(self, entry: Mapping[str, Any]) -> None:
        """Wakes a worker for a ledger entry, soon."""
        if len(self._entries) < _KEPT:
            self._entries.append(entry)
        if self._running is None:
            self._running = asyncio.create_task(self._run())

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._entries:
                if seconds := pause_for(self._in_flight(), _GATHER, _LONGEST_GATHER):
                    await asyncio.sleep(seconds)
                entries, self._entries = self._entries, []
                if not await loop.run_in_executor(self._executor, self._publish, entries):
                    self._entries = (entries + self._entries)[:_KEPT]
                    await asyncio.sleep(_PAUSE)
        finally:
            self._running = None

    def _publish(self, entries: Sequence[Mapping[str, Any]]) -> bool:
        size = 1 if len(entries) <= FEW else min(self._service.settings.chunk_size, _MOST_IN_A_MESSAGE)
        # The sweep takes what waits behind the oldest stamp for lost: so it is that of the oldest request.
        at = min(entry["enqueuedAt"] for entry in entries)
        try:
            self._service.publish(INTERACTIVE, chunks_of(entries, size), at)
        except BrokerUnavailable as error:
            log.warning("enqueue_failed", queue=INTERACTIVE, requests=len(entries), reason=error.message)
            return False
        return True
