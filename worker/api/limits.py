"""The rate limit of each token, counted in Redis by the minute; and the size of a body.

Where Redis is down there is no limit: refusing would be worse.
"""

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Executor

import redis
from fastapi import Request
from redis.backoff import NoBackoff
from redis.retry import Retry

from worker.api.answers import BodyTooLarge, RateLimited
from worker.api.batching import Batcher
from worker.connections import broker_errors
from worker.errors import BrokerUnavailable
from worker.log import get_logger
from worker.settings import Settings

log = get_logger(__name__)

_WINDOW = 60
_PAUSE = 2.0
"""Seconds without a limit after Redis failed, so that no request waits for it."""


class RateLimit:
    """`snapshots:rate:<token's hash>:<minute>` counts a token's requests."""

    def __init__(self, settings: Settings, executor: Executor, pause: Callable[[], float]) -> None:
        self._most = settings.api_rate_limit
        self._redis = redis.Redis.from_url(
            settings.redis_url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=Retry(NoBackoff(), 0)
        )
        self._count: Batcher[str, int] = Batcher(self._count_all, executor, pause)
        self._off_until = 0.0

    async def __call__(self, token: str) -> None:
        """Raises RateLimited, which says how many seconds to wait."""
        if not self._most or time.monotonic() < self._off_until:
            return
        now = time.time()
        name = hashlib.sha256(token.encode()).hexdigest()[:32]
        if await self._count(f"snapshots:rate:{name}:{int(now // _WINDOW)}") > self._most:
            wait = str(int(_WINDOW - now % _WINDOW) + 1)
            said = f"At most {self._most} requests a minute with one token; try again in {wait} s."
            raise RateLimited(said, headers={"Retry-After": wait})

    def _count_all(self, keys: Sequence[str]) -> list[int | Exception]:
        """What number each request is within its minute; 0 where Redis does not say."""
        try:
            with broker_errors(), self._redis.pipeline(transaction=False) as pipeline:
                wanted = Counter(keys)
                for key, count in wanted.items():
                    pipeline.incrby(key, count)
                    pipeline.expire(key, 2 * _WINDOW)
                totals = dict(zip(wanted, pipeline.execute()[::2], strict=True))
        except BrokerUnavailable as error:
            self._off_until = time.monotonic() + _PAUSE
            log.warning("rate_limit_off", reason=error.message)
            return [0] * len(keys)
        numbers: list[int | Exception] = []
        for key in keys:
            wanted[key] -= 1
            numbers.append(totals[key] - wanted[key])
        return numbers

    def close(self) -> None:
        self._redis.close()


async def read_body(request: Request, most: int) -> bytes:
    """The whole body. Raises BodyTooLarge before it is in memory."""
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > most:
        raise BodyTooLarge(f"The body should have at most {most} bytes.")
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > most:
            raise BodyTooLarge(f"The body should have at most {most} bytes.")
    return bytes(body)
