"""Groups requests of the ledger on the server: the aggregation pipelines, and how their results are read."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from worker.domain.ledger_entry import (
    ACCEPTED,
    DOCTORS_ORGANIZATION,
    WAITING_SINCE,
    Condition,
    counted_in,
    is_unsent_by,
)
from worker.stores.connections import Document

BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
"""Upper bounds of the time from acceptance to event, in seconds. One more bucket has no bound."""
NOT_TIMED = -1
"""The bucket of a request whose event has not been sent yet, or whose times were removed by retention."""


class Kind(NamedTuple):
    """Finished requests that are counted together. `bucket` is an index into BUCKETS."""

    trigger: str
    status: str
    code: str | None
    unchanged: bool
    bucket: int


@dataclass(slots=True)
class Sums:
    """Sums over the requests of one kind. `seconds` run from acceptance to event."""

    requests: int = 0
    seconds: float = 0.0
    attempts: int = 0
    """How many attempts failed."""
    swept: int = 0
    """How many wake-ups were lost."""

    def add(self, other: "Sums") -> None:
        self.requests += other.requests
        self.seconds += other.seconds
        self.attempts += other.attempts
        self.swept += other.swept


@dataclass(slots=True)
class InFlight:
    """Sums over requests in flight. `since`: since when the oldest due request has waited, or None if none is due."""

    requests: int = 0
    attempts: int = 0
    swept: int = 0
    since: datetime | None = None


def finished_between(since: datetime, until: datetime | None) -> Condition:
    """Match requests by the time of their outcome; an index answers it."""
    return counted_in({"$gte": since} | ({"$lt": until} if until else {}))


def finished_pipeline(
    since: datetime, until: datetime | None, settled_before: datetime, now: datetime, noted: Sequence[datetime]
) -> list[Document]:
    """Return the pipeline that groups finished requests by kind, and by whether they finished before `settled_before`.

    Args:
        since: Only requests that finished at or after this time.
        until: Only requests that finished before this time. None: all later ones.
        settled_before: No transaction can finish a request before this time any more.
        now: Stands for the time of the event if it has not been emitted yet.
        noted: The times of the decisions in the outbox.
    """
    unsent = is_unsent_by(noted)
    # Without `sentAt` the event was sent moments after the outcome, or has not been sent yet.
    sent_at = {"$ifNull": ["$sentAt", {"$cond": [unsent, now, "$finishedAt"]}]}
    return [
        {"$match": {**finished_between(since, until), "organizationId": {"$ne": DOCTORS_ORGANIZATION}}},
        {
            "$project": {
                **dict.fromkeys(("trigger", "status", "finishedAt", "attempts", "swept", "unsent"), 1),
                "code": "$error.code",
                "unchanged": {"$eq": ["$unchanged", True]},
                # null where retention has stripped the entry
                "seconds": {"$divide": [{"$subtract": [sent_at, WAITING_SINCE]}, 1000]},
            }
        },
        _group_by_kind(settled_before, unsent),
    ]


def _group_by_kind(settled_before: datetime, unsent: Condition) -> Document:
    settled = {"$lt": ["$finishedAt", settled_before]}
    not_timed = {"$or": [{"$eq": ["$seconds", None]}, {"$and": [unsent, {"$not": [settled]}]}]}
    buckets = [{"case": {"$lte": ["$seconds", bound]}, "then": index} for index, bound in enumerate(BUCKETS)]
    bucket = {"$switch": {"branches": [{"case": not_timed, "then": NOT_TIMED}, *buckets], "default": len(BUCKETS)}}
    key = {
        "trigger": {"$ifNull": ["$trigger", "unknown"]},
        **{name: f"${name}" for name in ("status", "code", "unchanged")},
        "bucket": bucket,
        "settled": settled,
    }
    seconds = {"seconds": {"$sum": {"$max": ["$seconds", 0]}}}
    return {"$group": {"_id": key, "requests": {"$sum": 1}, **seconds, **_sums_of("attempts", "swept")}}


def in_flight_pipeline() -> list[Document]:
    """Return the pipeline that groups requests in flight by trigger."""
    due_since = {"$cond": [{"$gt": ["$queue", None]}, WAITING_SINCE, None]}
    key = {"trigger": {"$ifNull": ["$trigger", "unknown"]}}
    sums = {"requests": {"$sum": 1}, "since": {"$min": due_since}, **_sums_of("attempts", "swept")}
    return [
        {"$match": {"status": ACCEPTED, "organizationId": {"$ne": DOCTORS_ORGANIZATION}}},
        {"$group": {"_id": key, **sums}},
    ]


def _sums_of(*fields: str) -> Document:
    return {name: {"$sum": f"${name}"} for name in fields}


def add_groups(totals: dict[Kind, Sums], groups: Iterable[Document]) -> None:
    """Add groups of finished requests to the totals."""
    for group in groups:
        key: dict[str, Any] = group["_id"]
        kind = Kind(key["trigger"], key["status"], key.get("code"), key["unchanged"], key["bucket"])
        seconds = group["seconds"] if kind.bucket != NOT_TIMED else 0.0
        totals.setdefault(kind, Sums()).add(Sums(group["requests"], seconds, group["attempts"], group["swept"]))


def in_flight_by_trigger(groups: Iterable[Document]) -> dict[str, InFlight]:
    """Read groups of requests in flight."""
    by_trigger: dict[str, InFlight] = defaultdict(InFlight)
    for group in groups:
        sums = InFlight(group["requests"], group["attempts"], group["swept"], group["since"])
        by_trigger[group["_id"]["trigger"]] = sums
    return by_trigger
