"""The asyncio client. It drives the same steps as the synchronous client."""

import asyncio
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from .connecting import OPTIONS, read_address
from .following import follow
from .models import Event, Outcome, RequestFields, Sent, fields_of
from .sending import send_closing, send_request
from .steps import Deliver, Driver, Execute, Names, Sleep, Steps, raise_first_error
from .waiting import wait

Result = TypeVar("Result")


class AsyncSnapshotClient:
    """The asyncio version of SnapshotClient: the same methods, parameters, results and errors.

    Close it with `aclose`, or use it as an asynchronous context manager, in the event loop that uses it.

    Example:
        async with AsyncSnapshotClient("redis://localhost:6379/0") as client:
            sent = await client.request("6a1b2c3d4e5f60718293a4b5", "6a1b2c3d4e5f60718293a4c0")
            outcome = await client.wait(sent, timeout=30)
            async for event in client.events("billing", "billing-1"):
                print(event.id)
    """

    def __init__(self, redis_url: str, *, durable: bool = False, names: Names | None = None) -> None:
        """Create a client. It connects when it is first used. See `SnapshotClient.__init__`."""
        self._redis: Any = read_address(redis_url).async_client(retry=Retry(NoBackoff(), 0), **OPTIONS)
        self._durable = durable
        self._checked = not durable
        self._names = names or Names()

    async def request(self, organization_id: object, contact_id: object, **fields: Unpack[RequestFields]) -> Sent:
        """Send a request for a snapshot. See `SnapshotClient.request`."""
        named = fields_of(organization_id, contact_id, fields)
        sent = await self._run(send_request(self._names, named, durable=self._durable, check=not self._checked))
        self._checked = True
        return sent

    async def resolved(self, organization_id: object, conversation_id: object) -> str:
        """Report that a conversation was resolved. See `SnapshotClient.resolved`."""
        fields = {"organizationId": organization_id, "conversationId": conversation_id}
        sent = await self._run(send_closing(self._names, fields, durable=self._durable, check=not self._checked))
        self._checked = True
        return sent

    async def wait(self, sent: Sent | str, timeout: float = 30.0) -> Outcome:  # noqa: ASYNC109 - it bounds the search
        """Wait until a request is completed or has failed. See `SnapshotClient.wait`."""
        return await self._run(wait(self._names, sent, timeout))

    async def events(
        self,
        group: str,
        consumer: str,
        *,
        take_over_after: float = 60.0,
        timeout: float | None = None,  # noqa: ASYNC109 - without an event
    ) -> AsyncIterator[Event]:
        """Yield the events of completed and failed requests. See `SnapshotClient.events`."""
        steps = follow(self._names, group, consumer, take_over_after=take_over_after, timeout=timeout)
        driver = Driver(steps)
        while not driver.done:
            if isinstance(driver.step, Deliver):
                yield driver.step.event
                driver.send(None)
            else:
                await self._advance(driver)

    async def aclose(self) -> None:
        """Close the connections. The client connects again if it is used again."""
        await self._redis.aclose()
        watching = getattr(self._redis.connection_pool, "sentinel_manager", None)
        for sentinel in watching.sentinels if watching else ():
            await sentinel.aclose()

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
