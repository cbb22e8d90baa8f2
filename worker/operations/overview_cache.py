"""Computes and caches overviews in the background, because counting a million requests takes a busy server seconds."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from bson import ObjectId

from worker.api.threads import Threads
from worker.errors import SnapshotError, UnexpectedError
from worker.log import get_logger
from worker.operations.data.overview import Overview

log = get_logger(__name__)

_MIN_AGE, _COST_FACTOR = 3.0, 10
"""An overview is reused for at least this many seconds, and for this many times as long as it took to make."""
_MAX_AGE = 300.0
"""Seconds for which an older overview is shown while a new one is being made."""
_MAX_CACHED = 100


@dataclass(frozen=True, slots=True)
class _Made:
    """An overview, or the error that prevented it. Times are of the monotonic clock."""

    result: Overview | SnapshotError
    fresh_until: float
    shown_until: float


class OverviewCache:
    """The overview of each organization, and the one of all (None)."""

    def __init__(self, make: Callable[[ObjectId | None], Overview], threads: Threads) -> None:
        """`make` blocks, and may raise SnapshotError."""
        self._make = make
        self._threads = threads
        self._made: dict[ObjectId | None, _Made] = {}
        self._in_progress: dict[ObjectId | None, asyncio.Task[None]] = {}

    async def get(self, organization: ObjectId | None, max_wait: float) -> Overview | None:
        """Return a recent overview; None if it is still being made after `max_wait` seconds.

        Raises StoreUnavailable, StoreConflict, UnexpectedError.
        """
        made = self._made.get(organization)
        if made is None or time.monotonic() >= made.fresh_until:
            task = self._in_progress.get(organization) or self._start(organization)
            await asyncio.wait([task], timeout=max_wait)
            made = self._made.get(organization)
        if made is None or time.monotonic() >= made.shown_until:
            return None
        if isinstance(made.result, SnapshotError):
            raise made.result
        return made.result

    def _start(self, organization: ObjectId | None) -> asyncio.Task[None]:
        task = self._in_progress[organization] = asyncio.create_task(self._refresh(organization))
        task.add_done_callback(lambda _: self._in_progress.pop(organization))
        return task

    async def _refresh(self, organization: ObjectId | None) -> None:
        started = time.monotonic()
        result: Overview | SnapshotError
        try:
            result = await self._threads.run(self._make, organization)
        except SnapshotError as error:
            result = error
        except Exception:
            # The boundary of the task: a page would refresh forever, and no log would have the traceback.
            log.exception("overview_failed")
            result = UnexpectedError()
        ended = time.monotonic()
        failed = isinstance(result, SnapshotError)
        age = _MIN_AGE if failed else max(_MIN_AGE, _COST_FACTOR * (ended - started))
        if len(self._made) >= _MAX_CACHED:
            self._made.clear()
        self._made[organization] = _Made(result, ended + age, ended + (_MIN_AGE if failed else _MAX_AGE))
