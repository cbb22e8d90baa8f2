"""The outbox of large decisions: one document for each decision, until the events of its requests are in the stream.

A decision of few requests marks each entry with `unsent` instead, which saves a round trip. So does a failure, because
a redrive needs to know whether its event was emitted. Marking each entry of a chunk, and removing the mark again, would
cost an update of every entry and of its index keys.

The document is inserted in the transaction that decides its requests, and deleted once their events are in the stream.
Only completed requests are named: their entries never change to another outcome.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bson import ObjectId
from pymongo import WriteConcern
from pymongo.client_session import ClientSession
from pymongo.collection import Collection
from pymongo.read_concern import ReadConcern

from worker.stores.connections import Connections, Document, store_errors

FEWEST = 10
"""Minimum number of completions for which a decision gets a document in the outbox."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Requests that were completed together, and the time, which is the `finishedAt` of each."""

    id: ObjectId
    """The id of the first of the requests."""
    at: datetime
    requests: list[ObjectId]


class Outbox:
    """The collection of decisions whose events may be unsent. All methods raise StoreUnavailable, StoreConflict."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    @property
    def collection(self) -> Collection[Document]:
        """The collection `snapshotoutbox`."""
        return self._connections.database[self._connections.settings.outbox_collection]

    def add(self, requests: Sequence[ObjectId], at: datetime, session: ClientSession) -> None:
        """Add a decision within the transaction that completes its requests."""
        with store_errors():
            self.collection.insert_one({"_id": requests[0], "at": at, "requests": list(requests)}, session=session)

    def oldest(self, at: Document, limit: int) -> list[Decision]:
        """Return the oldest decisions whose time matches the filter `at`, with about `limit` requests in total.

        They are read at majority, because a decision that is rolled back must have no event.
        """
        found: list[Decision] = []
        named = 0
        at_majority = self.collection.with_options(read_concern=ReadConcern("majority"))
        with store_errors(), at_majority.find({"at": at}, batch_size=limit // FEWEST).sort("at", 1) as cursor:
            for each in cursor:
                found.append(Decision(each["_id"], each["at"], each["requests"]))
                named += len(each["requests"])
                if named >= limit:
                    break
        return found

    def remove(self, decisions: Sequence[ObjectId], *, weakly: bool) -> None:
        """Remove decisions whose events are in the stream.

        Args:
            decisions: Ids of decisions, which are those of their first requests. Other ids have no effect.
            weakly: Do not wait for a majority, because losing this write only repeats events.
        """
        outbox = self.collection.with_options(write_concern=WriteConcern(w=1)) if weakly else self.collection
        with store_errors():
            outbox.delete_many({"_id": {"$in": list(decisions)}})

    # --- for operators ----------------------------------------------------------------------------------

    def contains_any(self, requests: Sequence[ObjectId]) -> bool:
        """Return whether the event of any of these requests may be unsent. Reads the whole outbox, which is small."""
        with store_errors():
            return self.collection.find_one({"requests": {"$in": list(requests)}}, {"_id": 1}) is not None

    def totals(self) -> tuple[int, datetime | None]:
        """Return the number of requests in the outbox, and when the oldest decision was made."""
        sums: list[Any] = [{"$group": {"_id": None, "count": {"$sum": {"$size": "$requests"}}, "at": {"$min": "$at"}}}]
        with store_errors():
            found = next(iter(self.collection.aggregate(sums)), None)
        return (found["count"], found["at"]) if found else (0, None)

    def times(self, limit: int, session: ClientSession) -> list[datetime]:
        """Return when the oldest decisions were made, oldest first.

        Args:
            limit: Maximum number of times to return.
            session: Read from the snapshot of this session.
        """
        with store_errors():
            found = self.collection.find({}, {"at": 1}, session=session).sort("at", 1).limit(limit)
            return [each["at"] for each in found]
