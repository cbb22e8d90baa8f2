"""Counts of the ledger by organization. The time to read them does not grow with the ledger.

    counts of an organization = its document in `snapshotcounts` + changes + finished since R + in flight

all read at one moment. `reached` (R) is a recent time before which no transaction can finish a request any more. Each
sweep moves it on and adds what finished before it to the organizations' documents (`worker.stores.folding`), so the
path of a request writes no counts, and no document is contended.

A request that finished before R changes only by a redrive, a deletion or an erasure. Each of these records a change: a
document of its own with the request's `finishedAt`, inserted in the transaction that changes the request. A change
counts if its `finishedAt` is before R. A sweep that moves R past that time has read either both the changed request and
the change, and removes the change, or neither. The change then counts until it is added to the organization's document.

The counts are verified: `worker.sweep.counting` counts the organizations in full in turn, and compares.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from bson import ObjectId
from pymongo.client_session import ClientSession
from pymongo.collection import Collection

from worker.clock import EPOCH
from worker.domain.ledger_entry import ACCEPTED, FAILED, SNAPSHOT_EXISTS, SUMS_WITHOUT_SNAPSHOT, counted_in
from worker.stores.connections import Connections, Document, store_errors
from worker.stores.indexes import LIFE
from worker.stores.stats import Identity, at_one_moment, identities, ledger_documents, of_organization

FOLD, CHECK = "fold", "check"
"""Names of two documents in `snapshotcounts` that hold no counts: how far requests are added (`reached`), and how far
the comparison has come. They are there so that a restored backup has both or neither."""
MARGIN = timedelta(seconds=15)
"""A margin beyond the run deadline and its grace period, because a dead client's transaction stays open for 10 s."""
_IDS = 10_000
"""Maximum number of ids in one look-up of snapshots."""

Tally = dict[Any, Counter[str]]
"""Counts by organization: `completed`, `failed`, `deleted`, `unchanged`, `snapshots`, `in_flight`, and `other` (a
status that should not exist)."""


@dataclass(frozen=True, slots=True)
class Totals:
    """The counts of one organization or of all at one moment, and how recent the last comparison is."""

    identities: list[Identity]
    verified_since: datetime | None
    """Every organization was compared with a full count after this time. None if these counts are a full count."""
    mismatches: int = 0
    """How many differences comparisons have found and corrected so far."""
    last_mismatch: Mapping[str, Any] | None = None
    """The latest difference: `organizationId`, `at`, and `counts` (full counts minus stored counts)."""


def totals(connections: Connections, organization: ObjectId | None = None) -> Totals:
    """Return exact counts. The time that this takes does not grow with the ledger.

    It counts in full, which takes seconds for a million requests, until every organization was compared once, and while
    no sweep has run for two minutes.

    Args:
        connections: The connections of this process.
        organization: Count this organization only. None: all of them.

    Raises:
        StoreUnavailable, StoreConflict: MongoDB cannot be reached or was busy; it is safe to try again.
    """
    now = connections.clock.now()

    def read(session: ClientSession) -> Totals | None:
        check, reached = checkpoint(connections, CHECK, session), reached_at(connections, session)
        if reached is None or not is_recent(connections, reached, now) or "completeSince" not in check:
            return None
        known = known_within(connections, session, reached, organization)
        return Totals(
            identities_of(known), check["completeSince"], check.get("mismatches", 0), check.get("lastMismatch")
        )

    return at_one_moment(connections, read) or Totals(identities(connections, organization), None)


def is_recent(connections: Connections, reached: datetime, now: datetime) -> bool:
    """Return whether sweeps keep the counts up to date; if not, everything is counted in full.

    A time in the future was written by a primary whose clock was ahead; requests finished since are not added yet.
    """
    settings = connections.settings
    late = settings.lost_after + MARGIN + max(timedelta(minutes=2), 3 * settings.sweep_interval)
    return timedelta(0) <= now - reached <= late


def counts_of(connections: Connections) -> Collection[Document]:
    """Return the collection `snapshotcounts`."""
    return connections.database[connections.settings.counts_collection]


# --- changes of requests that may have been counted -----------------------------------------------------


def change_of(entry: Mapping[str, Any], **counts: int) -> Document:
    """Return a document that records a change of an entry's counts. Reads its `organizationId` and `finishedAt`.

    An entry without `finishedAt` stands for a snapshot without a request.
    """
    at = entry.get("finishedAt") or EPOCH
    return {"organizationId": entry["organizationId"], "finishedAt": at, "counts": without_zeros(counts)}


def removals(
    organization: ObjectId, removed: Iterable[Mapping[str, Any]], marked: Iterable[Mapping[str, Any]]
) -> list[Document]:
    """Return the changes for removed snapshots, of which `requestId` is read.

    `marked`: the entries that are marked as deleted, of which `finishedAt` is read.
    """
    snapshots = {each["_id"] for each in removed if isinstance(each.get("requestId"), str)}  # others are not counted
    entries: dict[Any, Mapping[str, Any]] = {each["_id"]: each for each in marked}
    unexplained = {"organizationId": organization}
    return [
        change_of(entries.get(key, unexplained), deleted=int(key in entries), snapshots=-int(key in snapshots))
        for key in {*snapshots, *entries}
    ]


def record_changes(connections: Connections, session: ClientSession, changes: Iterable[Document]) -> None:
    """Record changes within the transaction that makes them. Raises StoreUnavailable, StoreConflict."""
    if found := [each for each in changes if each["counts"]]:
        with store_errors():
            counts_of(connections).insert_many(found, session=session)


# --- reading --------------------------------------------------------------------------------------------


def checkpoint(connections: Connections, name: str, session: ClientSession) -> Document:
    """Return the checkpoint of this name as it is within the transaction; empty if there is none."""
    return counts_of(connections).find_one({"_id": name}, session=session) or {}


def reached_at(connections: Connections, session: ClientSession) -> datetime | None:
    """Return `reached`, the time before which all finished requests are added; None before the first fold."""
    return checkpoint(connections, FOLD, session).get("reached")


def known_within(
    connections: Connections, session: ClientSession, reached: datetime, organization: ObjectId | Document | None
) -> Tally:
    """Return the counts by organization, all from the snapshot that `session` reads.

    `reached`: the time up to which finished requests are included in the stored counts; later ones are counted here.
    `organization`: an id, or a MongoDB range of ids; None for all. Raises PyMongo's errors.
    """
    of = of_organization(organization)
    tally = finished_within(connections, session, {"$gte": reached}, of)
    for each in counts_of(connections).find({**of, **_counted(reached)}, session=session):
        tally[each["organizationId"]].update(each["counts"])
    in_flight: list[Document] = [
        {"$match": {**of, "status": ACCEPTED}},
        {"$group": {"_id": "$organizationId", "count": {"$sum": 1}}},
    ]
    for group in ledger_documents(connections).aggregate(in_flight, session=session):
        tally[group["_id"]]["in_flight"] += group["count"]
    return tally


def identities_of(tally: Tally) -> list[Identity]:
    """Return the identities in order of organizations, without those whose counts are all 0."""
    found = []
    for organization in sorted(tally, key=str):
        if counts := without_zeros(tally[organization]):
            other = counts.pop("other", 0)
            accepted = other + sum(counts.get(name, 0) for name in ("completed", "failed", "in_flight"))
            found.append(Identity(organization, accepted, **counts))
    return found


def tally_of(identity: Identity) -> "Counter[str]":
    """Return the counts of an identity. The reverse of `identities_of`."""
    names = ("completed", "failed", "in_flight", "deleted", "unchanged", "snapshots")
    counts = Counter({name: getattr(identity, name) for name in names})
    counts["other"] = identity.accepted - identity.completed - identity.failed - identity.in_flight
    return counts


def finished_within(
    connections: Connections, session: ClientSession, window: Mapping[str, datetime], of: Document
) -> Tally:
    """Count requests that finished within the window, and those of their snapshots that exist."""
    groups: list[Document] = [
        {"$match": {**counted_in(window), **of}},
        {
            "$group": {
                "_id": {"organization": "$organizationId", "status": "$status"},
                "count": {"$sum": 1},
                **SUMS_WITHOUT_SNAPSHOT,
                "snapshots": {"$push": {"$cond": [SNAPSHOT_EXISTS, "$_id", "$$REMOVE"]}},
            }
        },
    ]
    tally: Tally = defaultdict(Counter)
    owners: dict[ObjectId, ObjectId] = {}
    # Without the hint, MongoDB may read every entry that the organizations ever had.
    for group in ledger_documents(connections).aggregate(groups, hint=dict.fromkeys(LIFE, 1), session=session):
        counts = tally[group["_id"]["organization"]]
        if group["_id"]["status"] == FAILED:
            counts["failed"] += group["count"]
        else:
            counts.update(completed=group["count"], deleted=group["deleted"], unchanged=group["unchanged"])
            owners |= dict.fromkeys(group["snapshots"], group["_id"]["organization"])
    for snapshot in _existing(connections, session, list(owners)):
        tally[owners[snapshot]]["snapshots"] += 1
    return tally


def _existing(connections: Connections, session: ClientSession, ids: Sequence[ObjectId]) -> Iterable[ObjectId]:
    """Yield the ids of those snapshots that exist, read from the index on `_id` alone."""
    snapshots = connections.database[connections.settings.snapshots_collection]
    for first in range(0, len(ids), _IDS):
        some: Document = {"_id": {"$in": ids[first : first + _IDS]}}
        yield from (each["_id"] for each in snapshots.find(some, {"_id": 1}, batch_size=_IDS + 1, session=session))


def _counted(before: datetime) -> Document:
    """Match the documents of organizations, and the changes of requests that finished before this time."""
    return {"_id": {"$type": "objectId"}, "$or": [{"finishedAt": None}, {"finishedAt": {"$lt": before}}]}


def without_zeros(counts: Mapping[str, int]) -> dict[str, int]:
    """Return the counts that are not 0, so that documents stay small."""
    return {name: count for name, count in counts.items() if count}
