"""Closings that made no snapshot, each with the reason, for a week: what an operator asks first.

One document per closing in `snapshotleftout`, so that a closing counts once however many sources see it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from bson import ObjectId
from pymongo import UpdateOne, WriteConcern
from pymongo.collection import Collection

from worker.stores.connections import Connections, Document, store_errors


@dataclass(frozen=True, slots=True)
class Omission:
    """A closing that makes no snapshot."""

    organization_id: ObjectId
    conversation_id: ObjectId
    request_id: str
    """The one that its request would have."""
    reason: str


class LeftOutClosings:
    """The collection of closings that were left out."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    @property
    def collection(self) -> Collection[Document]:
        """Not journaled: a record that is lost is written again by the next reconcile."""
        name = self._connections.settings.left_out_collection
        return self._connections.database[name].with_options(write_concern=WriteConcern(w=1))

    def record(self, omissions: Sequence[Omission], at: datetime) -> set[str]:
        """Keeps them; the request ids of those that are new. A new reason replaces the old one."""
        if not omissions:
            return set()
        updates = [
            UpdateOne(
                {"_id": each.request_id},
                {
                    "$set": {"reason": each.reason},
                    "$setOnInsert": {
                        "organizationId": each.organization_id,
                        "conversationId": each.conversation_id,
                        "leftOutAt": at,
                    },
                },
                upsert=True,
            )
            for each in omissions
        ]
        with store_errors():
            upserted = self.collection.bulk_write(updates, ordered=False).upserted_ids
        return {omissions[place].request_id for place in upserted or {}}

    def forget(self, request_ids: Iterable[str]) -> None:
        """These have a request after all: a message more, or another policy."""
        with store_errors():
            self.collection.delete_many({"_id": {"$in": list(request_ids)}})

    def counts(self, organizations: Iterable[ObjectId]) -> Mapping[ObjectId, dict[str, int]]:
        """By organization, how many of the last week's by reason."""
        found: dict[ObjectId, dict[str, int]] = {each: {} for each in organizations}
        pipeline: list[Document] = [
            {"$match": {"organizationId": {"$in": list(found)}}},
            {"$group": {"_id": {"organization": "$organizationId", "reason": "$reason"}, "count": {"$sum": 1}}},
            {"$sort": {"_id.reason": 1}},
        ]
        with store_errors():
            for each in self.collection.aggregate(pipeline):
                found[each["_id"]["organization"]][each["_id"]["reason"]] = each["count"]
        return found
