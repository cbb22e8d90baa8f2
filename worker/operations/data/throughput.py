"""Throughput and latency of the last hour by the minute, at a cost that does not grow with the load.

Outcomes are counted in an index, and latencies are those of the first outcomes of each minute. A minute that cannot
change any more is read only once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pymongo
from bson import ObjectId

from worker.domain.ledger_entry import COMPLETED, FAILED, FINAL_STATES, WAITING_SINCE, Status, counted_in
from worker.stores.connections import Connections, Document, store_errors
from worker.stores.indexes import Index, own_indexes

MINUTES = 60
_MINUTE = timedelta(minutes=1)
_SAMPLE_SIZE = 500
"""Maximum number of outcomes to read per minute and status. If there are more, an organization's share is estimated."""
_SETTLED_AFTER = timedelta(seconds=30)
"""How long after its end a minute is complete, because an outcome's time is set before its transaction commits."""
_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Minute:
    """The outcomes of one minute. `median`, `p95`: seconds from acceptance; None if nothing was completed."""

    start: datetime
    completed: int = 0
    failed: int = 0
    median: float | None = None
    p95: float | None = None
    estimated: bool = False


@dataclass(frozen=True, slots=True)
class _Outcomes:
    """The outcomes of a minute with one status: their number, and a sample of `{organizationId, seconds}`."""

    total: int
    sample: list[Document]

    def of(self, organization: ObjectId | None) -> list[Document]:
        return [row for row in self.sample if organization in (None, row["organizationId"])]

    def count(self, organization: ObjectId | None) -> int:
        if organization is None:
            return self.total
        count = len(self.of(organization))
        return round(self.total * count / len(self.sample)) if self.is_sampled else count

    @property
    def is_sampled(self) -> bool:
        return self.total > len(self.sample) > 0


class Throughput:
    """Reads minutes, and caches those that cannot change any more."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._cache: dict[datetime, dict[str, _Outcomes]] = {}
        self._index = _index_by_time(connections)

    def last_hour(self, organization: ObjectId | None = None) -> list[Minute]:
        """Return the last 60 minutes and the current one, oldest first. Raises StoreUnavailable, StoreConflict."""
        now = self._connections.clock.now()
        current = now.replace(second=0, microsecond=0)
        starts = [current - ago * _MINUTE for ago in range(MINUTES, -1, -1)]
        with pymongo.timeout(_SECONDS):
            minutes = {start: self._cache.get(start) or self._read(start) for start in starts}
        self._cache = {start: outcomes for start, outcomes in minutes.items() if start + _MINUTE + _SETTLED_AFTER < now}
        return [_minute(start, outcomes, organization) for start, outcomes in minutes.items()]

    def _read(self, start: datetime) -> dict[str, _Outcomes]:
        outcomes: dict[str, _Outcomes] = {}
        for status in FINAL_STATES:
            total = self._count(status, start)
            outcomes[status] = _Outcomes(total, self._sample(status, start) if total else [])
        return outcomes

    def _count(self, status: Status, start: datetime) -> int:
        """Count the outcomes of a minute with one status, from the index alone."""
        pipeline: list[dict[str, Any]] = [{"$match": _finished(status, start)}, {"$count": "count"}]
        with store_errors():
            rows = list(self._ledger.aggregate(pipeline, hint=self._index))
        return int(rows[0]["count"]) if rows else 0

    def _sample(self, status: Status, start: datetime) -> list[Document]:
        seconds = {"$divide": [{"$subtract": ["$finishedAt", WAITING_SINCE]}, 1000]}
        shape = {"_id": 0, "organizationId": 1, "seconds": {"$cond": [{"$gt": [WAITING_SINCE, None]}, seconds, None]}}
        pipeline = [{"$match": _finished(status, start)}, {"$limit": _SAMPLE_SIZE}, {"$project": shape}]
        with store_errors():
            return list(self._ledger.aggregate(pipeline, hint=self._index, batchSize=_SAMPLE_SIZE + 1))

    @property
    def _ledger(self) -> Any:
        return self._connections.database[self._connections.settings.requests_collection]


def _finished(status: Status, start: datetime) -> Document:
    return counted_in({"$gte": start, "$lt": start + _MINUTE}, status)


def _index_by_time(connections: Connections) -> str:
    """Return the name of the ledger's index by status and time."""
    ledger = connections.settings.requests_collection
    index: Index = next(
        index
        for index in own_indexes(connections.settings)
        if index.collection == ledger and index.keys[0][0] == "status"
    )
    return index.name


def _minute(start: datetime, outcomes: dict[str, _Outcomes], organization: ObjectId | None) -> Minute:
    completed, failed = outcomes[COMPLETED], outcomes[FAILED]
    seconds = sorted(row["seconds"] for row in completed.of(organization) if row["seconds"] is not None)
    return Minute(
        start,
        completed.count(organization),
        failed.count(organization),
        _percentile(seconds, 0.5),
        _percentile(seconds, 0.95),
        organization is not None and (completed.is_sampled or failed.is_sampled),
    )


def _percentile(ordered: Sequence[float], share: float) -> float | None:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None
