"""Keeps skipped closings with the reason for a week, so that operators can see why a snapshot was not made.

The collection `snapshotleftout` has one document per closing, so a closing counts once however many sources report it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from bson import ObjectId
from pymongo import UpdateOne, WriteConcern
from pymongo.collection import Collection

from worker.stores.connections import Connections, Document, store_errors

_FRESH = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class SkippedClosing:
    """A closing for which no snapshot is made.

    `request_id` is the id that its request would have had; `policy` is the fingerprint of the policy that skipped it.
    """

    organization_id: ObjectId
    conversation_id: ObjectId
    request_id: str
    reason: str
    policy: str


class SkippedClosings:
    """The collection of skipped closings, which expire after a week."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    @property
    def collection(self) -> Collection[Document]:
        """Not journaled, because the next reconcile writes a lost record again."""
        name = self._connections.settings.left_out_collection
        return self._connections.database[name].with_options(write_concern=WriteConcern(w=1))

    def record(self, closings: Sequence[SkippedClosing], at: datetime) -> set[str]:
        """Store the closings; return the request ids of those that are new. A new reason replaces the old one."""
        if not closings:
            return set()
        updates = [
            UpdateOne(
                {"_id": closing.request_id},
                {
                    "$set": {"reason": closing.reason, "policy": closing.policy, "checkedAt": at},
                    "$setOnInsert": {
                        "organizationId": closing.organization_id,
                        "conversationId": closing.conversation_id,
                        "leftOutAt": at,
                    },
                },
                upsert=True,
            )
            for closing in closings
        ]
        with store_errors():
            upserted = self.collection.bulk_write(updates, ordered=False).upserted_ids
        return {closings[place].request_id for place in upserted or {}}

    def recently_checked(self, request_ids: Iterable[str], policies: Mapping[ObjectId, str], at: datetime) -> set[str]:
        """Return the request ids of the given closings that need not be checked again yet.

        `policies`: the fingerprint of the current policy, by organization. `at`: the time now.

        A closing is checked again when its organization's policy has changed. Because messages may have been added,
        every reconcile checks it for 15 minutes, and then it is checked at growing intervals: 15 minutes, 30 and so on.
        """
        fields = {"organizationId": 1, "leftOutAt": 1, "checkedAt": 1, "policy": 1}
        with store_errors():
            records = list(self.collection.find({"_id": {"$in": list(request_ids)}}, fields))
        return {
            record["_id"]
            for record in records
            if "checkedAt" in record
            and at - record["leftOutAt"] > _FRESH
            and record.get("policy") == policies.get(record["organizationId"])
            and at - record["checkedAt"] < record["checkedAt"] - record["leftOutAt"]
        }

    def forget(self, request_ids: Iterable[str]) -> None:
        """Remove the records of closings that were accepted after all, because of another message or a new policy."""
        with store_errors():
            self.collection.delete_many({"_id": {"$in": list(request_ids)}})

    def counts(self, organizations: Iterable[ObjectId]) -> Mapping[ObjectId, dict[str, int]]:
        """Return for each organization how many closings of the last week were skipped, by reason."""
        counts: dict[ObjectId, dict[str, int]] = {organization: {} for organization in organizations}
        pipeline: list[Document] = [
            {"$match": {"organizationId": {"$in": list(counts)}}},
            {"$group": {"_id": {"organization": "$organizationId", "reason": "$reason"}, "count": {"$sum": 1}}},
            {"$sort": {"_id.reason": 1}},
        ]
        with store_errors():
            for group in self.collection.aggregate(pipeline):
                counts[group["_id"]["organization"]][group["_id"]["reason"]] = group["count"]
        return counts
