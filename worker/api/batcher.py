"""Group commit: calls that come while one is under way go together in the next.

Alone, a call goes at once. Under load calls are gathered for a moment, since what a batch costs hardly grows
with its size.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

FEW = 4
"""Requests in flight up to which nothing is gathered."""

Handle = Callable[[Sequence[Item]], Sequence[Result | Exception]]


def pause_for(in_flight: int, each: float, longest: float) -> float:
    """Seconds to gather: so much for each request in flight, none where they are few."""
    return min(each * in_flight, longest) if in_flight > FEW else 0.0


class Batcher(Generic[Item, Result]):
    """Awaited with one item; `handle` gets many, in a thread, and gives a result or an exception for each."""

    def __init__(
        self, handle: Handle[Item, Result], executor: Executor, pause: Callable[[], float], most: int = 500
    ) -> None:
        """`pause`: seconds to gather before a batch goes, now."""
        self._handle = handle
        self._executor = executor
        self._pause = pause
        self._most = most
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._running: asyncio.Task[None] | None = None

    async def __call__(self, item: Item) -> Result:
        """The item's result. Raises its exception, or the batch's."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        return await future

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                if seconds := self._pause():
                    await asyncio.sleep(seconds)
                batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._most))]
                results: Sequence[Result | Exception]
                try:
                    results = await loop.run_in_executor(self._executor, self._handle, [item for item, _ in batch])
                except Exception as error:  # noqa: BLE001 - each caller gets it
                    results = [error] * len(batch)
                for (_, future), result in zip(batch, results, strict=True):
                    _settle(future, result)
        finally:
            self._running = None


def _settle(future: asyncio.Future[Result], result: Result | Exception) -> None:
    if future.done():  # its caller went away
        return
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)
