"""Throughput and latency of the last hour, by the minute, at a cost that does not grow with the load.

An index counts the outcomes of a minute; latencies are of its first ones. A minute that is over is read once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pymongo
from bson import MinKey, ObjectId

from worker.domain.requests import COMPLETED, FAILED
from worker.stores.connections import Connections, Document, store_errors
from worker.stores.indexes import Index, own

MINUTES = 60
_MINUTE = timedelta(minutes=1)
_LOOKED_AT = 500
"""Outcomes of a minute and status that are read; above it an organization's share is estimated from them."""
_SETTLED = timedelta(seconds=30)
"""After a minute's end until it is taken for complete: an outcome's time is set before its transaction commits."""
_SECONDS = 10
_ANY: Document = {"$gte": MinKey()}


@dataclass(frozen=True, slots=True)
class Minute:
    """Outcomes of one minute. `median` and `slow` (95th percentile): seconds from acceptance, None without outcomes."""

    start: datetime
    completed: int = 0
    failed: int = 0
    median: float | None = None
    slow: float | None = None
    estimated: bool = False


@dataclass(frozen=True, slots=True)
class _Outcomes:
    """Of a minute, with one status: how many, and `{organizationId, seconds}` of the first ones."""

    total: int
    first: list[Document]

    def of(self, organization: ObjectId | None) -> list[Document]:
        return [each for each in self.first if organization in (None, each["organizationId"])]

    def count(self, organization: ObjectId | None) -> int:
        if organization is None:
            return self.total
        mine = len(self.of(organization))
        return round(self.total * mine / len(self.first)) if self.sampled else mine

    @property
    def sampled(self) -> bool:
        return self.total > len(self.first) > 0


class Throughput:
    """Reads minutes and remembers those that are over."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._known: dict[datetime, dict[str, _Outcomes]] = {}
        self._index = _index_by_time(connections)

    def last_hour(self, organization: ObjectId | None = None) -> list[Minute]:
        """60 minutes and the one that has begun, oldest first. Raises StoreUnavailable, StoreConflict."""
        now = self._connections.clock.now()
        begun = now.replace(second=0, microsecond=0)
        starts = [begun - each * _MINUTE for each in range(MINUTES, -1, -1)]
        with pymongo.timeout(_SECONDS):
            found = {start: self._known.get(start) or self._read(start) for start in starts}
        self._known = {start: each for start, each in found.items() if start + _MINUTE + _SETTLED < now}
        return [_minute(start, outcomes, organization) for start, outcomes in found.items()]

    def _read(self, start: datetime) -> dict[str, _Outcomes]:
        found: dict[str, _Outcomes] = {}
        for status in (COMPLETED, FAILED):
            total = self._count(status, start)
            found[status] = _Outcomes(total, self._first(status, start) if total else [])
        return found

    def _count(self, status: str, start: datetime) -> int:
        """From the index alone."""
        pipeline: list[dict[str, Any]] = [{"$match": _finished(status, start)}, {"$count": "count"}]
        with store_errors():
            found = list(self._ledger.aggregate(pipeline, hint=self._index))
        return int(found[0]["count"]) if found else 0

    def _first(self, status: str, start: datetime) -> list[Document]:
        since = {"$ifNull": ["$redrivenAt", "$dueAt", "$acceptedAt"]}
        seconds = {"$divide": [{"$subtract": ["$finishedAt", since]}, 1000]}
        shape = {"_id": 0, "organizationId": 1, "seconds": {"$cond": [{"$gt": [since, None]}, seconds, None]}}
        pipeline = [{"$match": _finished(status, start)}, {"$limit": _LOOKED_AT}, {"$project": shape}]
        with store_errors():
            return list(self._ledger.aggregate(pipeline, hint=self._index, batchSize=_LOOKED_AT + 1))

    @property
    def _ledger(self) -> Any:
        return self._connections.database[self._connections.settings.requests_collection]


def _finished(status: str, start: datetime) -> Document:
    # `unsent` stands before the time in the index, and is of few values, which are skipped through.
    return {"status": status, "unsent": _ANY, "finishedAt": {"$gte": start, "$lt": start + _MINUTE}}


def _index_by_time(connections: Connections) -> str:
    wanted = connections.settings.requests_collection
    found: Index = next(
        each for each in own(connections.settings) if each.collection == wanted and each.keys[0][0] == "status"
    )
    return found.name


def _minute(start: datetime, outcomes: dict[str, _Outcomes], organization: ObjectId | None) -> Minute:
    completed, failed = outcomes[COMPLETED], outcomes[FAILED]
    seconds = sorted(each["seconds"] for each in completed.of(organization) if each["seconds"] is not None)
    return Minute(
        start,
        completed.count(organization),
        failed.count(organization),
        _percentile(seconds, 0.5),
        _percentile(seconds, 0.95),
        organization is not None and (completed.sampled or failed.sampled),
    )


def _percentile(ordered: Sequence[float], part: float) -> float | None:
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else None
