"""Waits for outcomes: one poller for all POSTs of the process.

The ledger is asked, not Redis, so that it works while Redis is down. Each request is looked at again after
a share of the time that it has waited, all that are due in one read.
"""

import asyncio
import heapq
import itertools
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import pymongo
from bson import ObjectId
from pymongo.read_concern import ReadConcern

from worker.api.batcher import FEW, pause_for
from worker.api.responses import DATES_WITHOUT_ZONE, encode
from worker.domain.requests import ACCEPTED
from worker.errors import TransientError
from worker.log import get_logger
from worker.service import Service
from worker.stores.connections import store_errors

log = get_logger(__name__)

_FIRST, _SHARE, _LONGEST = 0.008, 0.2, 0.5
"""Seconds to the first look; then this share of the age, up to so many seconds."""
_ROUND, _LONGEST_ROUND = 0.004, 0.03
"""Seconds between two reads at least, while few and while many are awaited; looks due within are taken along."""
_MOST_BYTES = 32 * 1024 * 1024
"""Snapshots that one read brings at most; what is beyond comes with the next."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a request: its ledger entry, and its snapshot as JSON (None: there is none)."""

    entry: Mapping[str, Any]
    document: bytes | None


class Outcomes:
    """Awaited outcomes, by ledger id."""

    def __init__(self, service: Service, executor: Executor) -> None:
        self._service = service
        self._executor = executor
        self._awaited: dict[ObjectId, list[asyncio.Future[Outcome]]] = defaultdict(list)
        self._looks: list[tuple[float, int, float, ObjectId]] = []
        """A heap: when to look, a tie-break, since when it is awaited, what."""
        self._order = itertools.count()
        self._running: asyncio.Task[None] | None = None

    def awaited(self) -> int:
        """Requests that someone waits for."""
        return len(self._awaited)

    async def wait(self, request: ObjectId, seconds: float) -> Outcome | None:
        """The outcome, or None when there is none within so many seconds."""
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        if request not in self._awaited:
            now = time.monotonic()
            heapq.heappush(self._looks, (now + _FIRST, next(self._order), now, request))
        self._awaited[request].append(future)
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        try:
            async with asyncio.timeout(seconds):
                return await future
        except TimeoutError:
            return None
        finally:
            self._leave(request, future)

    def _leave(self, request: ObjectId, future: asyncio.Future[Outcome]) -> None:
        if futures := self._awaited.get(request):
            futures.remove(future)
            if not futures:
                del self._awaited[request]

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._looks:
                await asyncio.sleep(max(self._looks[0][0] - time.monotonic(), self._round()))
                due = self._due()
                if not due:
                    continue
                try:
                    found = await loop.run_in_executor(self._executor, self.look, due)
                except TransientError as error:
                    log.info("outcomes_later", code=error.code, reason=error.message)
                    continue
                for outcome in found:
                    for future in self._awaited.get(outcome.entry["_id"], ()):
                        if not future.done():
                            future.set_result(outcome)
        finally:
            self._running = None

    def _round(self) -> float:
        return pause_for(len(self._awaited), _ROUND / FEW, _LONGEST_ROUND) or _ROUND

    def _due(self) -> list[ObjectId]:
        """What to look at now; each has its next look noted."""
        now = time.monotonic()
        again: list[tuple[float, int, float, ObjectId]] = []
        while self._looks and self._looks[0][0] <= now + _ROUND:
            _, _, since, request = heapq.heappop(self._looks)
            if any(not future.done() for future in self._awaited.get(request, ())):
                look = now + min(max(_SHARE * (now - since), _ROUND), _LONGEST)
                again.append((look, next(self._order), since, request))
        for each in again:
            heapq.heappush(self._looks, each)
        return [request for *_, request in again]

    def look(self, requests: Iterable[ObjectId]) -> list[Outcome]:
        """The outcomes that there are, majority committed. Raises StoreUnavailable, StoreConflict."""
        majority = ReadConcern("majority")
        ledger = self._service.ledger.collection.with_options(read_concern=majority)
        snapshots = self._service.snapshots.collection.with_options(DATES_WITHOUT_ZONE, read_concern=majority)
        fields = dict.fromkeys(("organizationId", "requestId", "status", "error", "snapshotId", "deletedAt"), 1)
        with store_errors(), pymongo.timeout(5):
            wanted = {"_id": {"$in": list(requests)}, "status": {"$ne": ACCEPTED}}
            entries = list(ledger.find(wanted, fields))
            owed = {each["snapshotId"] for each in entries if each.get("snapshotId") and not each.get("deletedAt")}
            documents: dict[ObjectId, bytes] = {}
            size = 0
            if owed:
                for document in snapshots.find({"_id": {"$in": list(owed)}}):
                    owed.discard(document["_id"])
                    documents[document["_id"]] = data = encode(document)
                    size += len(data)
                    if size > _MOST_BYTES:
                        break
                else:
                    owed.clear()  # those that were not found are deleted
        return [
            Outcome(each, documents.get(each["snapshotId"]) if each.get("snapshotId") else None)
            for each in entries
            if each.get("snapshotId") not in owed
        ]
