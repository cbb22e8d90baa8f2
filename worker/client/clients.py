"""The synchronous and the asyncio client. Both drive the same steps."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import redis
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from ..errors import InvalidSettings
from ..redis_address.url import RedisAddress, parse_redis_url
from .following import follow
from .models import (
    Event,
    Outcome,
    RequestFields,
    Sent,
    fields_of,
)
from .sending import send_closing, send_request
from .steps import Deliver, Driver, Execute, Names, Sleep, Steps, raise_first_error
from .waiting import wait

Result = TypeVar("Result")

_OPTIONS: dict[str, Any] = {
    "decode_responses": True,
    "encoding_errors": "replace",  # entries of other producers are ignored, whatever bytes they hold
    "protocol": 2,
    "socket_timeout": 10,
    "socket_connect_timeout": 5,
    "socket_keepalive": True,
    "client_name": "training-snapshots-client",
}


def _address(redis_url: str) -> RedisAddress:
    try:
        return parse_redis_url(redis_url)
    except ValueError as error:
        raise InvalidSettings(f"The URL of Redis {error}.") from None


class SnapshotClient:
    """Requests snapshots, waits for their outcomes and reads events. Thread-safe."""

    def __init__(self, redis_url: str, *, durable: bool = False, names: Names | None = None) -> None:
        """Connect lazily to Redis.

        `durable`: return from `request` only when the entry is on Redis's disk (WAITAOF; needs `appendonly yes`).
        `names`: the streams, if the service uses other names. Raises InvalidSettings if the URL is not valid.
        """
        self._redis: Any = _address(redis_url).client(retry=Retry(NoBackoff(), 0), **_OPTIONS)
        self._durable = durable
        self._checked = not durable
        self._names = names or Names()

    def request(self, organization_id: object, contact_id: object, **fields: Unpack[RequestFields]) -> Sent:
        """Send a request for a snapshot of a conversation, or of all messages of a contact.

        Returns a `Sent`, which `wait` takes. The request is accepted once a listener has read it. Ids are ObjectIds or
        text of 24 hex digits; `fields` are those of `RequestFields`:

            sent = client.request(organization, contact, conversation_id=conversation, tags=["refund"])

        Raises InvalidRequest, NotDurable or, after a few attempts, BrokerUnavailable. Redis may then have the request:
        retry it with the request id in `error.details["requestId"]`.
        """
        named = fields_of(organization_id, contact_id, fields)
        sent = self._run(send_request(self._names, named, durable=self._durable, check=not self._checked))
        self._checked = True
        return sent

    def resolved(self, organization_id: object, conversation_id: object) -> str:
        """Report a resolved conversation and return the stream entry's id. Raises the same errors as `request`."""
        fields = {"organizationId": organization_id, "conversationId": conversation_id}
        sent = self._run(send_closing(self._names, fields, durable=self._durable, check=not self._checked))
        self._checked = True
        return sent

    def wait(self, sent: Sent | str, timeout: float = 30.0) -> Outcome:
        """Wait for the outcome of a request: a `Sent`, or the request id of a request that someone else sent.

        Raises TimeoutError, BrokerUnavailable or, for a `Sent`, Rejected if the service refused the entry.
        """
        return self._run(wait(self._names, sent, timeout))

    def events(
        self, group: str, consumer: str, *, take_over_after: float = 60.0, timeout: float | None = None
    ) -> Iterator[Event]:
        """Yield every event from the beginning of the stream, at least once for each group.

        An event is acknowledged when the next one is requested: a loop that ends inside its body gets that event
        again next time. One iterator never yields an event twice.

        `consumer`: a name that stays the same after a restart. `take_over_after`: seconds after which this consumer
        takes over the unacknowledged events of another. `timeout`: stop after this many seconds without an event.
        Raises InvalidRequest, or BrokerUnavailable if Redis refuses a command.
        """
        steps = follow(self._names, group, consumer, take_over_after=take_over_after, timeout=timeout)
        driver = Driver(steps)
        while not driver.done:
            if isinstance(driver.step, Deliver):
                yield driver.step.event
                driver.send(None)
            else:
                self._advance(driver)

    def close(self) -> None:
        self._redis.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    # --- steps ------------------------------------------------------------------------------------------

    def _run(self, steps: Steps[Result]) -> Result:
        driver = Driver(steps)
        while not driver.done:
            self._advance(driver)
        result: Result = driver.result
        return result

    def _advance(self, driver: Driver[Any]) -> None:
        try:
            reply = self._do(driver.step)
        except redis.RedisError as error:
            driver.throw(error)
        else:
            driver.send(reply)

    def _do(self, step: Execute | Sleep) -> Any:
        if isinstance(step, Sleep):
            time.sleep(step.seconds)
            return None
        with self._redis.pipeline(transaction=False) as pipeline:
            for name, args, kwargs in step.commands:
                getattr(pipeline, name)(*args, **kwargs)
            return raise_first_error(pipeline.execute(raise_on_error=False))


class AsyncSnapshotClient:
    """The asyncio version of SnapshotClient."""

    def __init__(self, redis_url: str, *, durable: bool = False, names: Names | None = None) -> None:
        """See SnapshotClient."""
        self._redis: Any = _address(redis_url).async_client(retry=AsyncRetry(NoBackoff(), 0), **_OPTIONS)
        self._durable = durable
        self._checked = not durable
        self._names = names or Names()

    async def request(self, organization_id: object, contact_id: object, **fields: Unpack[RequestFields]) -> Sent:
        """See SnapshotClient.request."""
        named = fields_of(organization_id, contact_id, fields)
        sent = await self._run(send_request(self._names, named, durable=self._durable, check=not self._checked))
        self._checked = True
        return sent

    async def resolved(self, organization_id: object, conversation_id: object) -> str:
        """See SnapshotClient.resolved."""
        fields = {"organizationId": organization_id, "conversationId": conversation_id}
        sent = await self._run(send_closing(self._names, fields, durable=self._durable, check=not self._checked))
        self._checked = True
        return sent

    async def wait(self, sent: Sent | str, timeout: float = 30.0) -> Outcome:  # noqa: ASYNC109 - it bounds the search
        """See SnapshotClient.wait."""
        return await self._run(wait(self._names, sent, timeout))

    async def events(
        self,
        group: str,
        consumer: str,
        *,
        take_over_after: float = 60.0,
        timeout: float | None = None,  # noqa: ASYNC109 - without an event
    ) -> AsyncIterator[Event]:
        """See SnapshotClient.events."""
        steps = follow(self._names, group, consumer, take_over_after=take_over_after, timeout=timeout)
        driver = Driver(steps)
        while not driver.done:
            if isinstance(driver.step, Deliver):
                yield driver.step.event
                driver.send(None)
            else:
                await self._advance(driver)

    async def aclose(self) -> None:
        await self._redis.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.aclose()

    # --- steps ------------------------------------------------------------------------------------------

    async def _run(self, steps: Steps[Result]) -> Result:
        driver = Driver(steps)
        while not driver.done:
            await self._advance(driver)
        result: Result = driver.result
        return result

    async def _advance(self, driver: Driver[Any]) -> None:
        try:
            reply = await self._do(driver.step)
        except redis.RedisError as error:
            driver.throw(error)
        else:
            driver.send(reply)

    async def _do(self, step: Execute | Sleep) -> Any:
        if isinstance(step, Sleep):
            await asyncio.sleep(step.seconds)
            return None
        async with self._redis.pipeline(transaction=False) as pipeline:
            for name, args, kwargs in step.commands:
                getattr(pipeline, name)(*args, **kwargs)
            return raise_first_error(await pipeline.execute(raise_on_error=False))
