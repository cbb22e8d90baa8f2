"""Plays the platform: conversations that receive messages, are closed and are reopened."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from bson import ObjectId
from pymongo.database import Database


@dataclass
class Platform:
    """One organization with one contact."""

    database: Database[dict[str, Any]]
    organization: ObjectId = field(default_factory=ObjectId)
    contact: ObjectId = field(default_factory=ObjectId)

    def __post_init__(self) -> None:
        document = {"_id": self.contact, "organizationId": self.organization, "channelTypes": ["sms", "Email"]}
        self.database.contacts.insert_one(document)

    def converse(self, messages: int = 2, **fields: Any) -> ObjectId:
        """Adds an open conversation, with messages from the contact and the user in turn."""
        return self.converse_often(1, messages, **fields)[0]

    def converse_often(self, count: int, messages: int = 2, **fields: Any) -> list[ObjectId]:
        """Adds several such conversations."""
        ids = [ObjectId() for _ in range(count)]
        own = {"organizationId": self.organization, "contactId": self.contact}
        self.database.conversations.insert_many({"_id": each, **own, "isResolved": False, **fields} for each in ids)
        if written := [self.message(each, place) for each in ids for place in range(messages)]:
            self.database.messages.insert_many(written)
        return ids

    def message(self, conversation: ObjectId, place: int) -> dict[str, Any]:
        return {
            "_id": ObjectId(),
            "organizationId": self.organization,
            "contactId": self.contact,
            "conversationId": conversation,
            "content": f"Message {place}",
            "direction": "outbound" if place % 2 else "inbound",
            "createdAt": datetime(2026, 5, 13, tzinfo=UTC) + timedelta(seconds=place),
        }

    def say(self, conversation: ObjectId) -> None:
        """Adds another message."""
        place = self.database.messages.count_documents({"conversationId": conversation})
        self.database.messages.insert_one(self.message(conversation, place))

    def close(self, *conversations: ObjectId, ago: timedelta = timedelta(0)) -> datetime:
        """Resolves conversations and returns when."""
        now = datetime.now(UTC) - ago
        moment = now.replace(microsecond=now.microsecond // 1000 * 1000)
        change = {"$set": {"isResolved": True, "resolvedAt": moment}}
        self.database.conversations.update_many({"_id": {"$in": list(conversations)}}, change)
        return moment

    def reopen(self, conversation: ObjectId) -> None:
        self.database.conversations.update_one({"_id": conversation}, {"$set": {"isResolved": False}})

    def requests(self) -> list[dict[str, Any]]:
        """Returns the ledger in the order of acceptance."""
        return list(self.database.snapshotrequests.find().sort("_id", 1))

    def snapshots(self) -> list[dict[str, Any]]:
        return list(self.database.trainingsnapshots.find().sort("_id", 1))
