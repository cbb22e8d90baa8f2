"""Threads for calls that block, and calls that several requests share."""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar, TypeVarTuple

Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")


class Threads:
    """A named thread pool for calls that block, which the event loop awaits.

    Example:
        found = await Threads("reader", count=4).run(reader.one, organization, snapshot)
    """

    def __init__(self, name: str, count: int) -> None:
        self.executor = ThreadPoolExecutor(count, name)

    async def run(self, function: Callable[[*Arguments], Result], *arguments: *Arguments) -> Result:
        """Call `function(*arguments)` in a thread and return its result. Raises its errors."""
        return await asyncio.get_running_loop().run_in_executor(self.executor, function, *arguments)

    def close(self) -> None:
        """Cancel the calls that still wait for a thread, and do not wait for those in progress."""
        self.executor.shutdown(wait=False, cancel_futures=True)


class SharedCall(Generic[Result]):
    """A call without arguments. All who await it while it runs share its result, so that a flood makes one call."""

    def __init__(self, call: Callable[[], Coroutine[Any, Any, Result]]) -> None:
        self._call = call
        self._running: asyncio.Task[Result] | None = None

    async def __call__(self) -> Result:
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._call())
        return await asyncio.shield(self._running)
