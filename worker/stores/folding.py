"""Adds finished requests and recorded changes to the counts of `worker.stores.counts`, in bounded transactions."""

from collections import Counter, defaultdict
from datetime import datetime, timedelta
from typing import Any

from pymongo import UpdateOne
from pymongo.client_session import ClientSession

from worker.domain.ledger_entry import finished_in
from worker.stores.connections import Connections, Document, store_errors
from worker.stores.counts import FOLD, MARGIN, Tally, counts_of, finished_within, reached_at, without_zeros
from worker.stores.stats import at_one_moment, ledger_documents, of_organization

MAX_REQUESTS = 20_000
"""Maximum number of requests that one fold adds. Adding this many takes a fifth of a second."""
MAX_CHANGES = 5_000
"""Maximum number of changes that one transaction adds and removes. After an outage of beat, a million may wait."""


def fold(connections: Connections, max_requests: int = MAX_REQUESTS, max_changes: int = MAX_CHANGES) -> int:
    """Add finished requests and recorded changes to the counts.

    Adds about `max_requests` requests and `max_changes` changes; returns how many it added, 0 if nothing is left.
    Several processes may do this at once. Raises StoreUnavailable, StoreConflict.
    """
    return _add_changes(connections, max_changes) + _move_on(connections, max_requests, max_changes)


def _add_changes(connections: Connections, limit: int) -> int:
    """Add the changes of requests that finished before `reached`, which never decreases; return how many."""
    kept = counts_of(connections)
    with connections.transaction() as session:
        if (reached := reached_at(connections, session)) is None:
            return 0
        before = kept.find({"finishedAt": {"$lt": reached}}, session=session).sort("finishedAt", 1)
        changes = list(before.limit(limit))
        tally: Tally = defaultdict(Counter)
        for change in changes:
            tally[change["organizationId"]].update(change["counts"])
        _remove(connections, session, changes)
        add(connections, session, tally)
    return len(changes)


def _move_on(connections: Connections, max_requests: int, max_changes: int) -> int:
    """Advance `reached`, and add what finished in between; return the number of requests and changes."""
    settled = connections.clock.now() - connections.settings.lost_after - MARGIN

    def read(session: ClientSession) -> tuple[datetime | None, datetime, Tally, list[Document]]:
        reached = reached_at(connections, session)
        if reached is None:
            return None, settled, {}, []
        end = _slice_end(connections, session, reached, settled, max_requests, max_changes)
        window = {"$gte": reached, "$lt": end}
        tally = finished_within(connections, session, window, of_organization(None))
        seen = counts_of(connections).find({"finishedAt": window}, {"_id": 1}, session=session)
        return reached, end, tally, list(seen)

    reached, end, tally, seen = at_one_moment(connections, read)
    if reached is not None and end <= reached:
        return 0
    kept = counts_of(connections)
    with connections.transaction() as session:
        if reached is None:
            kept.insert_one({"_id": FOLD, "reached": end}, session=session)
        elif not kept.update_one(
            {"_id": FOLD, "reached": reached}, {"$set": {"reached": end}}, session=session
        ).matched_count:
            return 0  # another sweep has advanced it already
        add(connections, session, tally)
        _remove(connections, session, seen)  # the tally has them
    return sum(counts["completed"] + counts["failed"] for counts in tally.values()) + len(seen)


def _slice_end(
    connections: Connections,
    session: ClientSession,
    reached: datetime,
    settled: datetime,
    max_requests: int,
    max_changes: int,
) -> datetime:
    """Return the time by which `max_requests` had finished or `max_changes` were recorded, at most `settled`."""
    window = {"$gte": reached, "$lt": settled}
    end = settled
    for collection, condition, limit in (
        (ledger_documents(connections), finished_in(window), max_requests),
        (counts_of(connections), {"finishedAt": window}, max_changes),
    ):
        only: dict[str, Any] = {"_id": 0, "finishedAt": 1}
        rows = collection.find(condition, only, session=session).sort("finishedAt", 1).skip(limit).limit(1)
        end = min([end, *(row["finishedAt"] for row in rows)])
    # A transaction may have finished more than that in one millisecond.
    return end if end == settled else max(end, reached + timedelta(milliseconds=1))


def _remove(connections: Connections, session: ClientSession, changes: list[Document]) -> None:
    if changes:
        which: Document = {"_id": {"$in": [change["_id"] for change in changes]}}
        counts_of(connections).delete_many(which, session=session)


def add(connections: Connections, session: ClientSession, tally: Tally) -> None:
    """Add counts to the organizations' documents within a transaction."""
    updates = [
        UpdateOne(
            {"_id": organization},
            {
                "$inc": {f"counts.{name}": count for name, count in changed.items()},
                "$set": {"organizationId": organization},
            },
            upsert=True,
        )
        for organization, counts in tally.items()
        if (changed := without_zeros(counts))
    ]
    if updates:
        with store_errors():
            counts_of(connections).bulk_write(updates, ordered=False, session=session)
