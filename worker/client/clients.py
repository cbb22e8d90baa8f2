"""The two clients, for threads and for asyncio: the same steps, done in the one way or the other."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from worker.client.following import follow
from worker.client.models import (
    Event,
    Outcome,
    RequestFields,
    Sent,
    fields_of,
)
from worker.client.sending import send_closing, send_request
from worker.client.steps import Do, Give, Names, Pause, Running, Steps, checked
from worker.client.waiting import wait

Result = TypeVar("Result")

_OPTIONS: dict[str, Any] = {
    "decode_responses": True,
    "encoding_errors": "replace",  # a foreign entry is passed over, whatever bytes it has
    "protocol": 2,
    "socket_timeout": 10,
    "socket_connect_timeout": 5,
    "socket_keepalive": True,
    "client_name": "training-snapshots-client",
}


class SnapshotClient:
    """Requests snapshots, waits for their outcomes, reads events. May be shared by threads."""

    def __init__(self, redis_url: str, *, durable: bool = False, names: Names | None = None) -> None:
        """`durable`: every entry is on Redis's disk before `request` returns (WAITAOF; needs appendonly yes).

        `names`: the streams, where the server's settings name others.
        """
        self._redis: Any = redis.Redis.from_url(redis_url, retry=Retry(NoBackoff(), 0), **_OPTIONS)
        self._durable = durable
        self._checked = not durable
        self._names = names or Names()

    def request(self, organization_id: object, contact_id: object, **fields: Unpack[RequestFields]) -> Sent:
        """Sends a request; ids are 24 hex digits or ObjectIds. It is accepted once a listener has read it.

        Raises InvalidRequest; NotDurable; BrokerUnavailable, after a few attempts: `error.details["requestId"]` is
        the request id to send it with again, since Redis may have it.
        """
        named = fields_of(organization_id, contact_id, fields)
        sent = self._run(send_request(self._names, named, durable=self._durable, check=not self._checked))
        self._checked = True
        return sent

    def resolved(self, organization_id: object, conversation_id: object) -> str:
        """Says that a conversation was resolved; the stream entry's id. Raises as `request` does."""
        fields = {"organizationId": organization_id, "conversationId": conversation_id}
        sent = self._run(send_closing(self._names, fields, durable=self._durable, check=not self._checked))
        self._checked = True
        return sent

    def wait(self, sent: Sent | str, timeout: float = 30.0) -> Outcome:
        """What became of a request that was sent; of one that someone else sent, by its request id.

        Raises TimeoutError; Rejected, if the server refused the entry (only known of a Sent); BrokerUnavailable.
        """
        return self._run(wait(self._names, sent, timeout))

    def events(
        self, group: str, consumer: str, *, take_over_after: float = 60.0, timeout: float | None = None
    ) -> Iterator[Event]:
        """Every event from the stream's beginning on, at least once for each group, without end.

        An event is acknowledged when the next one is asked for: a loop that ends or breaks within its body gets
        that event again the next time. Within one iterator none comes twice. `consumer`: the same name after a
        restart. `take_over_after`: seconds after which another consumer's unacknowledged events become this one's.
        `timeout`: ends after so many seconds without an event. Raises InvalidRequest; BrokerUnavailable where Redis
        refuses.
        """
        steps = follow(self._names, group, consumer, take_over_after=take_over_after, timeout=timeout)
        running = Running(steps)
        while not running.done:
            if isinstance(running.step, Give):
                yield running.step.event
                running.answer(None)
            else:
                self._turn(running)

    def close(self) -> None:
        self._redis.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    # --- steps ------------------------------------------------------------------------------------------

    def _run(self, steps: Steps[Result]) -> Result:
        running = Running(steps)
        while not running.done:
            self._turn(running)
        result: Result = running.result
        return result

    def _turn(self, running: Running[Any]) -> None:
        try:
            reply = self._do(running.step)
        except redis.RedisError as error:
            running.fail(error)
        else:
            running.answer(reply)

    def _do(self, step: Do | Pause) -> Any:
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            return None
        with self._redis.pipeline(transaction=False) as pipeline:
            for name, args, kwargs in step.commands:
                getattr(pipeline, name)(*args, **kwargs)
            return checked(pipeline.execute(raise_on_error=False))


class AsyncSnapshotClient:
    """The same for asyncio."""

    def __init__(self, redis_url: str, *, durable: bool = False, names: Names | None = None) -> None:
        """As of SnapshotClient."""
        self._redis: Any = redis.asyncio.Redis.from_url(redis_url, retry=AsyncRetry(NoBackoff(), 0), **_OPTIONS)
        self._durable = durable
        self._checked = not durable
        self._names = names or Names()

    async def request(self, organization_id: object, contact_id: object, **fields: Unpack[RequestFields]) -> Sent:
        """As SnapshotClient.request."""
        named = fields_of(organization_id, contact_id, fields)
        sent = await self._run(send_request(self._names, named, durable=self._durable, check=not self._checked))
        self._checked = True
        return sent

    async def resolved(self, organization_id: object, conversation_id: object) -> str:
        """As SnapshotClient.resolved."""
        fields = {"organizationId": organization_id, "conversationId": conversation_id}
        sent = await self._run(send_closing(self._names, fields, durable=self._durable, check=not self._checked))
        self._checked = True
        return sent

    async def wait(self, sent: Sent | str, timeout: float = 30.0) -> Outcome:  # noqa: ASYNC109 - it bounds the search
        """As SnapshotClient.wait."""
        return await self._run(wait(self._names, sent, timeout))

    async def events(
        self,
        group: str,
        consumer: str,
        *,
        take_over_after: float = 60.0,
        timeout: float | None = None,  # noqa: ASYNC109 - without an event
    ) -> AsyncIterator[Event]:
        """As SnapshotClient.events."""
        steps = follow(self._names, group, consumer, take_over_after=take_over_after, timeout=timeout)
        running = Running(steps)
        while not running.done:
            if isinstance(running.step, Give):
                yield running.step.event
                running.answer(None)
            else:
                await self._turn(running)

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
        running = Running(steps)
        while not running.done:
            await self._turn(running)
        result: Result = running.result
        return result

    async def _turn(self, running: Running[Any]) -> None:
        try:
            reply = await self._do(running.step)
        except redis.RedisError as error:
            running.fail(error)
        else:
            running.answer(reply)

    async def _do(self, step: Do | Pause) -> Any:
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
            return None
        async with self._redis.pipeline(transaction=False) as pipeline:
            for name, args, kwargs in step.commands:
                getattr(pipeline, name)(*args, **kwargs)
            return checked(await pipeline.execute(raise_on_error=False))
