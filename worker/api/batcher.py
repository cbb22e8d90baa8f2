"""Group commit: calls that arrive while a batch is being handled form the next batch.

A single call is handled without delay. Under load, calls are gathered for a moment, because a large batch hardly
costs more than a small one.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

FEW = 4
"""Calls are gathered only if more requests than this are in flight."""

Handle = Callable[[Sequence[Item]], Sequence[Result | Exception]]


def pause_for(in_flight: int, seconds_each: float, max_seconds: float) -> float:
    """Return how long to gather calls, in seconds: `seconds_each` for each request in flight, at most `max_seconds`.

    0 if few requests are in flight, because gathering would only delay them.
    """
    return min(seconds_each * in_flight, max_seconds) if in_flight > FEW else 0.0


class Batcher(Generic[Item, Result]):
    """Groups concurrent calls into batches. Each call gets the result of its own item.

    `handle` is called in a thread with many items, and returns a result or an exception for each.
    """

    def __init__(
        self, handle: Handle[Item, Result], executor: Executor, pause: Callable[[], float], max_items: int = 500
    ) -> None:
        """`pause` returns the seconds for which to gather before the next batch."""
        self._handle = handle
        self._executor = executor
        self._pause = pause
        self._max_items = max_items
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._running: asyncio.Task[None] | None = None

    async def __call__(self, item: Item) -> Result:
        """Return the item's result. Raises the exception of the item, or of the whole batch."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        return await future

    async def _run(self) -> None:
        try:
            while self._waiting:
                if seconds := self._pause():
                    await asyncio.sleep(seconds)
                batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._max_items))]
                results = await self._results([item for item, _ in batch])
                for (_, future), result in zip(batch, results, strict=True):
                    _settle(future, result)
        finally:
            self._running = None

    async def _results(self, items: Sequence[Item]) -> Sequence[Result | Exception]:
        """Return one result for each item, whatever `handle` does: no caller may wait forever."""
        try:
            results = await asyncio.get_running_loop().run_in_executor(self._executor, self._handle, items)
        except Exception as error:  # noqa: BLE001 - each caller gets it
            return [error] * len(items)
        if len(results) != len(items):
            return [RuntimeError(f"{len(results)} results for {len(items)} items")] * len(items)
        return results


def _settle(future: asyncio.Future[Result], result: Result | Exception) -> None:
    if future.done():  # its caller went away
        return
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)
