"""Counts of all selected snapshots, made by MongoDB."""

import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pymongo.client_session import ClientSession
from pymongo.collection import Collection
from pymongo.errors import ExecutionTimeout

from worker.errors import StatisticsTooSlow
from worker.statistics.figures import Count, Duplicates, Values
from worker.stores.connections import Document, store_errors
from worker.stores.mongo_errors import MAX_TIME_EXPIRED

TOP = 50
"""Maximum number of values of a field to list."""
_FIRST, _LAST = "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"
"""`$dateToString` refuses dates beyond these years."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The selected snapshots, as the snapshot session shows them."""

    collection: Collection[Document]
    condition: Document
    session: ClientSession
    seconds: float
    """MongoDB's time limit for one aggregation, in seconds."""

    def aggregate(self, stages: list[Document]) -> list[Document]:
        """Run an aggregation on the snapshots. Raises StatisticsTooSlow, StoreUnavailable, StoreConflict."""
        with store_errors(), _time_limit():
            return list(
                self.collection.aggregate(
                    [{"$match": self.condition}, *stages],
                    session=self.session,
                    allowDiskUse=True,
                    maxTimeMS=int(self.seconds * 1000),
                )
            )


@dataclass(frozen=True, slots=True)
class Counts:
    """Exact counts of the selection."""

    snapshots: int
    message_counts: Counter[int]
    values: dict[str, Values]
    """The most frequent values, by the name of the field."""


def count(selection: Selection) -> Counts:
    """Count in one pass. Snapshots that the platform created may lack any field, or have a value of another type."""
    texts = {"qualities": "quality", "categories": "category"}
    months = {"conversation_months": "conversationStartDate", "created_months": "createdAt"}
    each_once = {"$setUnion": [{"$map": {"input": "$tags", "in": _text("$this")}}, []]}
    facets: dict[str, list[Document]] = {
        **{name: _most_frequent(_text(field)) for name, field in texts.items()},
        **{name: _most_frequent(_month(field)) for name, field in months.items()},
        "tags": [
            {"$project": {"tags": {"$cond": [{"$isArray": "$tags"}, each_once, "$tags"]}}},
            {"$unwind": {"path": "$tags", "preserveNullAndEmptyArrays": True}},
            *_most_frequent(_text("tags")),
        ],
        "total": [{"$count": "count"}],
        "message_counts": [
            {"$match": {"messageCount": {"$type": ["int", "long", "double"]}}},
            {"$group": {"_id": "$messageCount", "count": {"$sum": 1}}},
        ],
    }
    used = dict.fromkeys([*texts.values(), *months.values(), "tags", "messageCount"], 1)
    (found,) = selection.aggregate([{"$project": used}, {"$facet": facets}])
    total, message_counts = found.pop("total"), found.pop("message_counts")
    lengths = Counter[int]()
    for each in message_counts:
        if math.isfinite(each["_id"]):
            lengths[max(int(each["_id"]), 0)] += each["count"]
    values = {name: most_frequent([(each["_id"], each["count"]) for each in groups]) for name, groups in found.items()}
    return Counts(total[0]["count"] if total else 0, lengths, values)


def count_duplicates(selection: Selection) -> Duplicates:
    """Count the snapshots that have the same messages as another one, according to their `contentHash`.

    Returns the number of groups of equal snapshots, of snapshots in them, and of those beyond the first of each group.
    """
    found = selection.aggregate(
        [
            {"$match": {"contentHash": {"$type": "string"}}},
            {"$group": {"_id": "$contentHash", "count": {"$sum": 1}}},
            {"$match": {"count": {"$gt": 1}}},
            {"$group": {"_id": None, "groups": {"$sum": 1}, "snapshots": {"$sum": "$count"}}},
        ]
    )
    groups, snapshots = (found[0]["groups"], found[0]["snapshots"]) if found else (0, 0)
    return Duplicates(groups=groups, snapshots=snapshots, surplus=snapshots - groups)


def most_frequent(counted: list[tuple[str | None, int]]) -> Values:
    """Return the figures for values that are already sorted by frequency."""
    values = [Count(value=value, snapshots=number) for value, number in counted[:TOP]]
    return Values(values=values, more=len(counted) > TOP)


def _most_frequent(value: Any) -> list[Document]:
    return [
        {"$group": {"_id": value, "count": {"$sum": 1}}},
        {"$sort": {"count": -1, "_id": 1}},
        {"$limit": TOP + 1},
    ]


def _text(field: str) -> Document:
    return {"$cond": [{"$eq": [{"$type": f"${field}"}, "string"]}, f"${field}", None]}


def _month(field: str) -> Document:
    path = f"${field}"
    is_date = {"$eq": [{"$type": path}, "date"]}
    bounds = [{"$gte": [path, {"$toDate": _FIRST}]}, {"$lte": [path, {"$toDate": _LAST}]}]
    month = {"$dateToString": {"date": path, "format": "%Y-%m"}}
    return {"$cond": [{"$and": [is_date, *bounds]}, month, None]}


@contextmanager
def _time_limit() -> Iterator[None]:
    try:
        yield
    except ExecutionTimeout as error:
        if error.code == MAX_TIME_EXPIRED:
            raise StatisticsTooSlow from error
        raise
