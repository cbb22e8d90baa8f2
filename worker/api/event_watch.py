"""Learns from the event stream that requests have an outcome, so that a POST need not wait for the next poll.

It is only a hint: the outcome is read from the ledger, and while Redis is down, the poller finds it a little later.
"""

import asyncio
import re
from collections.abc import Callable

import redis
from bson import ObjectId

from worker.log import get_logger
from worker.settings import Settings
from worker.stores.events import FIELD, entries_of

log = get_logger(__name__)

_BLOCK_MS = 1000
_MAX_EVENTS = 1000
_RETRY_SECONDS = 5.0
_ID = re.compile(rb'"id":"([0-9a-f]{24})\.')
"""The ledger id in an event's JSON (`worker.stores.events.event_of`). Parsing the JSON would take ten times as long."""


class EventWatch:
    """Follows the event stream while it is wanted. One instance per process, used from its event loop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._running: asyncio.Task[None] | None = None

    def start(self, on_outcome: Callable[[ObjectId], object], is_wanted: Callable[[], bool]) -> None:
        """Follow the stream from now on, unless that is being done already.

        Args:
            on_outcome: Called with the ledger id of each event, of any request.
            is_wanted: Asked after each read, at least once a second. If it returns False, the watch ends.
        """
        if self._running is None:
            self._running = asyncio.create_task(self._run(on_outcome, is_wanted))

    async def _run(self, on_outcome: Callable[[ObjectId], object], is_wanted: Callable[[], bool]) -> None:
        try:
            await self._follow(on_outcome, is_wanted)
        except (redis.RedisError, OSError) as error:
            log.info("outcomes_without_events", reason=type(error).__name__)
            await asyncio.sleep(_RETRY_SECONDS)
        finally:
            self._running = None

    async def _follow(self, on_outcome: Callable[[ObjectId], object], is_wanted: Callable[[], bool]) -> None:
        stream = self._settings.events_stream
        options = {"socket_timeout": 5, "socket_connect_timeout": 3, "socket_keepalive": True}
        async with self._settings.redis.async_client(**options) as client:
            after: bytes | str = "$"
            while is_wanted():
                for key, fields in entries_of(await client.xread({stream: after}, _MAX_EVENTS, _BLOCK_MS)):
                    after = key
                    if found := _ID.search(fields.get(FIELD.encode(), b"")):
                        on_outcome(ObjectId(found[1].decode()))
