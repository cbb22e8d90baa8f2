"""Learns from the event stream that requests have an outcome, so that a POST need not wait for the next poll.

It is only a hint: the outcome is read from the ledger, and while Redis is down, the poller finds it a little later.
"""

import asyncio
import re
import time
from collections.abc import Callable
from typing import Any

import redis
from bson import ObjectId
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from worker.log import get_logger
from worker.settings import Settings
from worker.stores.events import FIELD, entries_of

log = get_logger(__name__)

_BLOCK_MS = 1000
_MAX_EVENTS = 100
"""Maximum number of events in a read. A read that returns this many means a flood, in which polling costs less."""
_PAUSE_SECONDS = 5.0
"""Seconds without the watch after an error, and during a flood."""
_FROM_END_SECONDS = 30.0
"""Seconds after which the watch starts again from the end of the stream, whose newest id may now be lower."""
_ID = re.compile(rb'"id":"([0-9a-f]{24})\.')
"""The ledger id in an event's JSON (`worker.stores.events.event_of`). Parsing the JSON would take ten times as long."""


class EventWatch:
    """Follows the event stream while it is wanted. One instance per process, used from its event loop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client: Any = None
        """Kept between watches: with Sentinels, each new client would ask them again."""
        self._running: asyncio.Task[None] | None = None

    def start(self, on_outcome: Callable[[ObjectId], object], is_wanted: Callable[[], bool]) -> None:
        """Follow the stream from now on, unless that is being done already.

        Args:
            on_outcome: Called with the ledger id of each event, of any request.
            is_wanted: Asked after each read, at least once a second. If it returns False, the watch ends.
        """
        if self._running is None:
            self._running = asyncio.create_task(self._run(on_outcome, is_wanted))

    async def close(self) -> None:
        """End the watch, and close its connection."""
        if self._running:
            self._running.cancel()
            await asyncio.wait([self._running])
        if self._client:
            await self._client.aclose()

    async def _run(self, on_outcome: Callable[[ObjectId], object], is_wanted: Callable[[], bool]) -> None:
        try:
            while is_wanted():
                await self._follow(on_outcome, is_wanted)
        except (redis.RedisError, OSError) as error:
            log.info("event_watch_interrupted", reason=type(error).__name__)
            await self._client.connection_pool.disconnect()
            await asyncio.sleep(_PAUSE_SECONDS)
        except Exception:
            log.exception("event_watch_failed")
            await asyncio.sleep(_PAUSE_SECONDS)
        finally:
            self._running = None

    async def _follow(self, on_outcome: Callable[[ObjectId], object], is_wanted: Callable[[], bool]) -> None:
        stream, ends = self._settings.events_stream, time.monotonic() + _FROM_END_SECONDS
        client = self._connected()
        newest = await client.xrevrange(stream, count=1)
        after = newest[0][0] if newest else "0-0"
        while is_wanted() and time.monotonic() < ends:
            found = entries_of(await client.xread({stream: after}, _MAX_EVENTS, _BLOCK_MS))
            for key, fields in found:
                after = key
                if named := _ID.search(fields.get(FIELD.encode(), b"")):
                    on_outcome(ObjectId(named[1].decode()))
            if len(found) == _MAX_EVENTS:
                await asyncio.sleep(_PAUSE_SECONDS)
                return

    def _connected(self) -> Any:
        if self._client is None:
            self._client = self._settings.redis.async_client(
                socket_timeout=5, socket_connect_timeout=3, socket_keepalive=True, retry=Retry(NoBackoff(), 0)
            )
        return self._client
