"""Counts the requests that match a filter by error code."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from worker.domain.ledger_entry import FAILED
from worker.stores.connections import Connections, store_errors
from worker.stores.queries import RequestFilter

_MAX_REQUESTS = 100_000


@dataclass(frozen=True, slots=True)
class ErrorGroup:
    """The requests with one error code. `code` is None for requests without an error."""

    code: str | None
    count: int
    newest: datetime | None
    """When the newest of them failed."""


@dataclass(frozen=True, slots=True)
class ErrorGroups:
    """The groups, largest first. `complete` is False if there are more requests than were counted."""

    groups: list[ErrorGroup]
    complete: bool

    @property
    def total(self) -> int:
        return sum(group.count for group in self.groups)


def count_by_code(connections: Connections, requests: RequestFilter) -> ErrorGroups:
    """Count failed requests by code, and those in flight by the error of their last attempt.

    Raises StoreUnavailable, StoreConflict.
    """
    condition = replace(requests, code=None).condition()
    code = "$error.code" if requests.status == FAILED else "$lastError.code"
    group = {"_id": code, "count": {"$sum": 1}, "newest": {"$max": "$finishedAt"}}
    pipeline: list[dict[str, Any]] = [{"$match": condition}, {"$limit": _MAX_REQUESTS}, {"$group": group}]
    with store_errors():
        rows = list(connections.database[connections.settings.requests_collection].aggregate(pipeline))
    groups = [ErrorGroup(row["_id"], row["count"], row["newest"]) for row in rows]
    groups.sort(key=lambda group: (-group.count, group.code or ""))
    return ErrorGroups(groups, sum(group.count for group in groups) < _MAX_REQUESTS)
