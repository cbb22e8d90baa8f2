"""Counters of requests and their outcomes: a fold of the ledger, and not counts of our own.

Why: work is done by prefork processes that are killed, recycled and scaled; what they counted in memory would end
with them, and writing counts down costs a round trip or, unacknowledged, the truth. The ledger has it all already.
So nothing is counted on a request's path: a scrape reads the entries that were finished since the last one, by the
ledger's own index, groups them on the server, and adds what no late commit can change anymore to totals in the
state collection, by compare-and-set on how far they reach. A million old entries cost a scrape nothing, retention
may strip them, and no entry is counted twice, whoever scrapes and whoever dies.

A failure that is redriven before it is added (within `lost_after`) counts as its last round alone.
"""

import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pymongo
from bson import MinKey, ObjectId
from pymongo.collection import Collection
from pymongo.read_concern import ReadConcern

from worker.domain.requests import ACCEPTED, COMPLETED, FAILED
from worker.stores.checkpoints import State
from worker.stores.connections import Connections, Document, store_errors

BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
"""Upper bounds of accept-to-event, in seconds; one more is infinite."""
NOT_TIMED = -1
"""Of an entry whose event is not out yet, and of one that retention has stripped."""
DOCTORS = ObjectId(b"snap-doctor!")
"""The organization of `snapshots doctor`'s own request, which is removed again: it is not counted."""

_NAME = "measures"
_FIRST = datetime(1970, 1, 1, tzinfo=UTC)
_SLICE = 50_000
"""Entries that one aggregation adds at most: a third of a second."""
_LAST_SECONDS = 5
"""For what is begun when the time is over."""
_ANY: Document = {"$gte": MinKey()}
_WAITING_SINCE = ["$redrivenAt", "$dueAt", "$acceptedAt"]


class Kind(NamedTuple):
    """Finished requests that are counted together. `bucket`: the place in BUCKETS."""

    trigger: str
    status: str
    code: str | None
    unchanged: bool
    bucket: int


@dataclass(slots=True)
class Sums:
    """Of one kind: requests, their seconds from accept to event, attempts that failed, wake-ups that were lost."""

    requests: int = 0
    seconds: float = 0.0
    attempts: int = 0
    swept: int = 0

    def add(self, other: "Sums") -> None:
        self.requests += other.requests
        self.seconds += other.seconds
        self.attempts += other.attempts
        self.swept += other.swept


@dataclass(slots=True)
class Waiting:
    """Requests in flight. `since`: of the oldest that is due; None where none is."""

    requests: int = 0
    attempts: int = 0
    swept: int = 0
    since: datetime | None = None


@dataclass(slots=True)
class Outcomes:
    """All of one moment."""

    at: datetime
    finished: dict[Kind, Sums]
    waiting: dict[str, Waiting]
    """By trigger."""


class OutcomeFold:
    """Reads outcomes, and adds what is settled to the totals."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._state = State(connections)

    @property
    def _ledger(self) -> Collection[Document]:
        name = self._connections.settings.requests_collection
        # A snapshot is of majority committed entries, and of one moment: an entry is finished or in flight, never both.
        return self._connections.database[name].with_options(read_concern=ReadConcern("snapshot"))

    def __call__(self, seconds: float) -> Outcomes | None:
        """The outcomes of now; None while older ones are still being added, for which one call takes so long at most.

        Raises StoreUnavailable, StoreConflict.
        """
        stop_at = time.monotonic() + seconds
        with pymongo.timeout(seconds + _LAST_SECONDS):
            while True:
                now = self._connections.clock.now()
                settled = now - self._connections.settings.lost_after
                known = self._state.get(_NAME)
                reached: datetime = known.get("reached") or _FIRST
                end = self._slice_end(reached, settled)
                if end >= settled:  # beyond it where another process has a shorter run deadline
                    return self._now(known, reached, settled, now)
                if time.monotonic() > stop_at:
                    return None
                groups = self._aggregate([*_finished(reached, end, now), _group_finished(end)])
                self._store(known, _totals(known), groups, end)

    def _slice_end(self, reached: datetime, settled: datetime) -> datetime:
        """How far one aggregation goes: halved until it is of few entries."""
        end = max(reached, settled)
        counted = self._ledger.with_options(read_concern=ReadConcern("local"))
        while end - reached > self._connections.settings.lost_after:
            condition = _finished_between(reached, end)
            with store_errors():
                if counted.count_documents(condition, limit=_SLICE + 1) <= _SLICE:
                    break
            middle = reached + (end - reached) / 2
            end = middle.replace(microsecond=middle.microsecond // 1000 * 1000)
        return end

    def _now(self, known: Document, reached: datetime, settled: datetime, now: datetime) -> Outcomes:
        """Totals, and what came since, and what is in flight, in one aggregation."""
        end = max(reached, settled)
        name = self._connections.settings.requests_collection
        union = {"$unionWith": {"coll": name, "pipeline": _in_flight()}}
        groups = self._aggregate([*_finished(reached, None, now), _group_finished(end), union])
        totals = _totals(known)
        if end > reached:
            self._store(known, dict(totals), groups, end)
        _add(totals, (each for each in groups if each["_id"].get("status")))
        return Outcomes(now, totals, _waiting(each for each in groups if not each["_id"].get("status")))

    def _aggregate(self, pipeline: list[Document]) -> list[Document]:
        with store_errors():
            return list(self._ledger.aggregate(pipeline))

    def _store(self, known: Document, totals: dict[Kind, Sums], groups: Iterable[Document], reached: datetime) -> None:
        """What is settled; where another process was first, it has added the same."""
        fresh = {kind: Sums(*astuple(sums)) for kind, sums in totals.items()}
        _add(fresh, (each for each in groups if each["_id"].get("settled")))
        rows = [[*kind, *astuple(sums)] for kind, sums in fresh.items()]
        self._state.set(_NAME, {"reached": reached, "rows": rows}, expected={"reached": known.get("reached")})


# --- the aggregation ----------------------------------------------------------------------------------


def _finished_between(since: datetime, until: datetime | None) -> Document:
    """By the index that begins with status, unsent, finishedAt."""
    window: Document = {"$gte": since} | ({"$lt": until} if until else {})
    return {"status": {"$in": [COMPLETED, FAILED]}, "unsent": _ANY, "finishedAt": window}


def _finished(since: datetime, until: datetime | None, now: datetime) -> list[Document]:
    """`sentAt` says when the event went out; where it is absent, that was moments after the outcome."""
    out = {"$ifNull": ["$sentAt", {"$cond": [{"$eq": ["$unsent", True]}, now, "$finishedAt"]}]}
    return [
        {"$match": {**_finished_between(since, until), "organizationId": {"$ne": DOCTORS}}},
        {
            "$project": {
                **dict.fromkeys(("trigger", "status", "finishedAt", "attempts", "swept", "unsent"), 1),
                "code": "$error.code",
                "unchanged": {"$eq": ["$unchanged", True]},
                # null where retention has stripped the entry
                "seconds": {"$divide": [{"$subtract": [out, {"$ifNull": _WAITING_SINCE}]}, 1000]},
            }
        },
    ]


def _group_finished(settled_before: datetime) -> Document:
    settled = {"$lt": ["$finishedAt", settled_before]}
    untimed = {"$or": [{"$eq": ["$seconds", None]}, {"$and": [{"$eq": ["$unsent", True]}, {"$not": [settled]}]}]}
    places = [{"case": {"$lte": ["$seconds", bound]}, "then": place} for place, bound in enumerate(BUCKETS)]
    bucket = {"$switch": {"branches": [{"case": untimed, "then": NOT_TIMED}, *places], "default": len(BUCKETS)}}
    key = {
        "trigger": {"$ifNull": ["$trigger", "unknown"]},
        **{name: f"${name}" for name in ("status", "code", "unchanged")},
        "bucket": bucket,
        "settled": settled,
    }
    sums = {"seconds": {"$sum": {"$max": ["$seconds", 0]}}} | {
        name: {"$sum": f"${name}"} for name in ("attempts", "swept")
    }
    return {"$group": {"_id": key, "requests": {"$sum": 1}, **sums}}


def _in_flight() -> list[Document]:
    due = {"$cond": [{"$gt": ["$queue", None]}, {"$ifNull": _WAITING_SINCE}, None]}
    sums = {name: {"$sum": f"${name}"} for name in ("attempts", "swept")}
    return [
        {"$match": {"status": ACCEPTED, "organizationId": {"$ne": DOCTORS}}},
        {
            "$group": {
                "_id": {"trigger": {"$ifNull": ["$trigger", "unknown"]}},
                "requests": {"$sum": 1},
                "since": {"$min": due},
                **sums,
            }
        },
    ]


# --- what it gives --------------------------------------------------------------------------------------


def _totals(known: Document) -> dict[Kind, Sums]:
    size = len(Kind._fields)
    return {Kind(*row[:size]): Sums(*row[size:]) for row in known.get("rows", ())}


def _add(totals: dict[Kind, Sums], groups: Iterable[Document]) -> None:
    for each in groups:
        key: dict[str, Any] = each["_id"]
        kind = Kind(key["trigger"], key["status"], key.get("code"), key["unchanged"], key["bucket"])
        seconds = each["seconds"] if kind.bucket != NOT_TIMED else 0.0
        totals.setdefault(kind, Sums()).add(Sums(each["requests"], seconds, each["attempts"], each["swept"]))


def _waiting(groups: Iterable[Document]) -> dict[str, Waiting]:
    found: dict[str, Waiting] = defaultdict(Waiting)
    for each in groups:
        found[each["_id"]["trigger"]] = Waiting(each["requests"], each["attempts"], each["swept"], each["since"])
    return found
