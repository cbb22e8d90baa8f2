"""The rate limit of each user, counted in Redis by the minute, and the limit on unknown integration keys.

While Redis is down, each process counts alone.
"""

import asyncio
import hashlib
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass

from redis.backoff import NoBackoff
from redis.retry import Retry

from worker.api.responses import RateLimited, TokenInvalid
from worker.api.tokens import Caller
from worker.errors import BrokerUnavailable
from worker.log import get_logger
from worker.settings import Settings
from worker.stores.connections import broker_errors

log = get_logger(__name__)

_WINDOW = 60
_EXCHANGE_SECONDS = 0.05
"""Seconds between two exchanges with Redis. A burst to several processes may exceed the limit for this long."""
_RETRY_SECONDS = 2.0
"""Seconds to the next exchange after Redis failed."""
_MAX_UNKNOWN_KEYS = 30
"""Maximum number of unknown integration keys of an address in a minute."""


@dataclass(slots=True)
class _Tally:
    """The requests of one user in the current minute."""

    total: int = 0
    """Redis's count at the last exchange, which includes the requests of this process until then."""
    new: int = 0
    """The number of requests in this process since the last exchange."""


class RateLimit:
    """Limits how many requests a user may send in a minute to all API processes together.

    Redis counts them in `snapshots:rate:<hash of organization and user>:<minute>`. Users are identified by the token's
    claims, because a user may have several tokens.

    No request waits for Redis: each is counted in this process, which exchanges counts with Redis a moment later.
    """

    def __init__(self, settings: Settings, executor: Executor) -> None:
        self._limit = settings.api_rate_limit
        self._redis = settings.redis.client(socket_timeout=0.5, socket_connect_timeout=0.5, retry=Retry(NoBackoff(), 0))
        self._executor = executor
        self._minute = 0
        self._tallies: dict[str, _Tally] = {}
        self._running: asyncio.Task[None] | None = None

    async def __call__(self, caller: Caller) -> None:
        """Count a request. Raises RateLimited, which says how many seconds to wait."""
        if not self._limit:
            return
        now = time.time()
        if self._minute != (minute := int(now // _WINDOW)):
            self._minute, self._tallies = minute, {}
        name = hashlib.sha256(f"{caller.organization}:{caller.user}".encode()).hexdigest()[:32]
        tally = self._tallies.setdefault(f"snapshots:rate:{name}:{minute}", _Tally())
        tally.new += 1
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        if tally.total + tally.new > self._limit:
            wait = str(int(_WINDOW - now % _WINDOW) + 1)
            message = f"A user may send at most {self._limit} requests per minute; try again in {wait} s."
            raise RateLimited(message, headers={"Retry-After": wait})

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while tallies := {key: tally for key, tally in self._tallies.items() if tally.new}:
                counts = {key: tally.new for key, tally in tallies.items()}
                for key, tally in tallies.items():
                    tally.total, tally.new = tally.total + counts[key], 0
                totals = await loop.run_in_executor(self._executor, self._exchange, counts)
                for key, total in totals.items():
                    tallies[key].total = total
                await asyncio.sleep(_EXCHANGE_SECONDS if totals else _RETRY_SECONDS)
        finally:
            self._running = None

    def _exchange(self, counts: Mapping[str, int]) -> dict[str, int]:
        """Add to Redis's counts; return the new counts, or nothing if Redis cannot be used."""
        try:
            with broker_errors(), self._redis.pipeline(transaction=False) as pipeline:
                for key, count in counts.items():
                    pipeline.incrby(key, count)
                    pipeline.expire(key, 2 * _WINDOW)
                return dict(zip(counts, pipeline.execute()[::2], strict=True))
        except BrokerUnavailable as error:
            log.warning("rate_limit_counted_per_process", reason=error.message)
            return {}

    def close(self) -> None:
        """Close the connection to Redis."""
        self._redis.close()


class UnknownKeyLimit:
    """Limits how many unknown integration keys an address may send in a minute.

    Each of them is looked up in MongoDB. Keys in the list of stored keys (`Keys.is_listed`) are not limited, because
    behind a proxy all clients have the same address.
    """

    def __init__(self) -> None:
        self._minute = 0
        self._counts: dict[str, int] = {}

    @contextmanager
    def attempt(self, address: str) -> Iterator[None]:
        """Count a lookup that fails with TokenInvalid. Raises RateLimited before the lookup if there were too many."""
        now = time.time()
        if self._minute != (minute := int(now // _WINDOW)):
            self._minute, self._counts = minute, {}
        if self._counts.get(address, 0) >= _MAX_UNKNOWN_KEYS:
            wait = str(int(_WINDOW - now % _WINDOW) + 1)
            message = f"Too many unknown integration keys from this address; try again in {wait} s."
            raise RateLimited(message, headers={"Retry-After": wait})
        # Counted before the lookup, so that concurrent requests do not all pass.
        self._counts[address] = self._counts.get(address, 0) + 1
        try:
            yield
        except TokenInvalid:
            raise
        except BaseException:
            self._forgive(address)
            raise
        self._forgive(address)

    def _forgive(self, address: str) -> None:
        if self._counts.get(address):
            self._counts[address] -= 1
