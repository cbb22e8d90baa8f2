"""Requests by filter and period: which, and how many by code."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import pymongo

from worker.domain.requests import COMPLETED, FAILED
from worker.stores.connections import Connections, Document, store_errors
from worker.stores.queries import Filter

_SECONDS = 10
_MOST = 100_000


@dataclass(frozen=True, slots=True)
class Period(Filter):
    """A filter that also ends. `until` is of the outcome where finished ones are asked for, else of the acceptance."""

    until: datetime | None = None

    def condition(self) -> Document:
        condition = Filter.condition(self)  # no super(): a class with slots is made twice
        if self.until:
            finished = self.code or self.status in {COMPLETED, FAILED}
            field = "finishedAt" if finished else "acceptedAt"
            condition[field] = {**condition.get(field, {}), "$lte": self.until}
            if finished and not self.organization:
                condition["unsent"] = {"$in": [None, True]}  # as in Filter, so that the index serves the time
        return condition


@dataclass(frozen=True, slots=True)
class Group:
    """Requests with one code; None: those that met no fault."""

    code: str | None
    count: int
    newest: datetime | None
    """When the newest of them failed."""


@dataclass(frozen=True, slots=True)
class Groups:
    """Largest first. `whole`: whether all were counted."""

    groups: list[Group]
    whole: bool

    @property
    def total(self) -> int:
        return sum(each.count for each in self.groups)


def by_code(connections: Connections, which: Period, most: int = _MOST) -> Groups:
    """Failures by code, those in flight by the reason of their last attempt; of `most` requests.

    Raises StoreUnavailable, StoreConflict where it takes longer than 10 s.
    """
    condition = replace(which, code=None).condition()
    code = "$error.code" if which.status == FAILED else "$lastError.code"
    group = {"_id": code, "count": {"$sum": 1}, "newest": {"$max": "$finishedAt"}}
    pipeline: list[dict[str, Any]] = [{"$match": condition}, {"$limit": most}, {"$group": group}]
    with store_errors(), pymongo.timeout(_SECONDS):
        found = list(connections.database[connections.settings.requests_collection].aggregate(pipeline))
    groups = [Group(each["_id"], each["count"], each["newest"]) for each in found]
    groups.sort(key=lambda each: (-each.count, each.code or ""))
    return Groups(groups, sum(each.count for each in groups) < most)
