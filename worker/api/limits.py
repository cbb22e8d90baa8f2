"""The rate limit of each token, counted in Redis by the minute; and the size of a body.

Where Redis is down each process counts alone.
"""

import asyncio
import hashlib
import time
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass

import redis
from fastapi import Request
from redis.backoff import NoBackoff
from redis.retry import Retry
from starlette.requests import ClientDisconnect

from worker.api.responses import BodyTooLarge, RateLimited
from worker.errors import BrokerUnavailable, InvalidRequest
from worker.log import get_logger
from worker.settings import Settings
from worker.stores.connections import broker_errors

log = get_logger(__name__)

_WINDOW = 60
_TELL = 0.05
"""Seconds between two tellings: so much may pass beyond the limit where several processes serve one token."""
_PAUSE = 2.0
"""Seconds to the next one after Redis failed."""
_BODY_SECONDS = 30
"""Until a body has to be here, so that no connection is held by sending it byte by byte."""


@dataclass(slots=True)
class _Tally:
    """Of one token in this minute."""

    told: int = 0
    """As Redis has it, with all of ours that it was told."""
    new: int = 0
    """Ours since."""


class RateLimit:
    """`snapshots:rate:<token's hash>:<minute>` counts a token's requests.

    No request waits for Redis: each is counted here, and Redis is told, and asked, a moment later.
    """

    def __init__(self, settings: Settings, executor: Executor) -> None:
        self._most = settings.api_rate_limit
        self._redis = redis.Redis.from_url(
            settings.redis_url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=Retry(NoBackoff(), 0)
        )
        self._executor = executor
        self._minute = 0
        self._tallies: dict[str, _Tally] = {}
        self._running: asyncio.Task[None] | None = None

    async def __call__(self, token: str) -> None:
        """Raises RateLimited, which says how many seconds to wait."""
        if not self._most:
            return
        now = time.time()
        if self._minute != (minute := int(now // _WINDOW)):
            self._minute, self._tallies = minute, {}
        name = hashlib.sha256(token.encode()).hexdigest()[:32]
        tally = self._tallies.setdefault(f"snapshots:rate:{name}:{minute}", _Tally())
        tally.new += 1
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        if tally.told + tally.new > self._most:
            wait = str(int(_WINDOW - now % _WINDOW) + 1)
            said = f"At most {self._most} requests a minute with one token; try again in {wait} s."
            raise RateLimited(said, headers={"Retry-After": wait})

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while tallies := {key: each for key, each in self._tallies.items() if each.new}:
                counts = {key: each.new for key, each in tallies.items()}
                for key, each in tallies.items():
                    each.told, each.new = each.told + counts[key], 0
                told = await loop.run_in_executor(self._executor, self._tell, counts)
                for key, total in told.items():
                    tallies[key].told = total
                await asyncio.sleep(_TELL if told else _PAUSE)
        finally:
            self._running = None

    def _tell(self, counts: Mapping[str, int]) -> dict[str, int]:
        """Adds to Redis's counts; what they are then, nothing where it cannot be used."""
        try:
            with broker_errors(), self._redis.pipeline(transaction=False) as pipeline:
                for key, count in counts.items():
                    pipeline.incrby(key, count)
                    pipeline.expire(key, 2 * _WINDOW)
                return dict(zip(counts, pipeline.execute()[::2], strict=True))
        except BrokerUnavailable as error:
            log.warning("rate_limit_alone", reason=error.message)
            return {}

    def close(self) -> None:
        self._redis.close()


async def read_body(request: Request, most: int) -> bytes:
    """The whole body. Raises BodyTooLarge before it is in memory, InvalidRequest, ClientDisconnect."""
    if (encoding := request.headers.get("content-encoding", "identity")).lower() != "identity":
        raise _invalid("Content-Encoding", f"should be left out; {encoding[:20]} is not read")
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > most:
        raise _too_large(most)
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            body, more = await _receive(request)
            while more and len(body) <= most:
                part, more = await _receive(request)
                body += part
    except TimeoutError:
        raise _invalid("body", f"should be here within {_BODY_SECONDS} s") from None
    if len(body) > most:
        raise _too_large(most)
    return body


def _too_large(most: int) -> BodyTooLarge:
    return BodyTooLarge(f"The body should have at most {most} bytes.")


async def _receive(request: Request) -> tuple[bytes, bool]:
    """The next part of the body, and whether more is to come."""
    message = await request.receive()
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    return message.get("body", b""), message.get("more_body", False)


def _invalid(field: str, fault: str) -> InvalidRequest:
    return InvalidRequest([{"field": field, "message": fault}])
