"""What the operations page stands on in one API process: threads and connections of its own, opened by its first use.

So a slow look at a million requests takes no thread from those who make snapshots.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from worker.api.container import Parts
from worker.operations.data.overview import Overviews
from worker.operations.data.rejected_entries import Rejections
from worker.operations.data.throughput import Throughput
from worker.service import Service
from worker.stores.connections import Connections

Result = TypeVar("Result")
_THREADS = 2


class Desk:
    """One of an API process."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.settings = parts.settings
        self._threads = ThreadPoolExecutor(_THREADS, "operations")
        self.connections = Connections(parts.settings)
        self.service = Service(self.connections, parts.service.publish)
        self.overviews = Overviews(self.connections, Throughput(self.connections))
        self.rejections = Rejections(self.service)

    async def do(self, what: Callable[..., Result], *arguments: Any) -> Result:
        """`what(*arguments)` in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, what, *arguments)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        self.connections.close()
