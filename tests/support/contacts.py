"""A contact with conversations, as the platform stores them."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from bson import ObjectId
from pymongo.database import Database

START = datetime(2026, 5, 13, 13, 14, 57, 199000, tzinfo=UTC)


@dataclass
class Contact:
    """Ids of what `contact_with` stored; `messages` by conversation."""

    organization: ObjectId
    id: ObjectId
    messages: dict[ObjectId, list[ObjectId]] = field(default_factory=dict)

    @property
    def conversations(self) -> list[ObjectId]:
        return list(self.messages)


def contact_with(database: Database[dict[str, Any]], *lengths: int, organization: ObjectId | None = None) -> Contact:
    """Stores a contact with one conversation for each length, in messages."""
    made = Contact(organization or ObjectId(), ObjectId())
    ids = {"organizationId": made.organization, "contactId": made.id}
    names = {"firstName": "Priya", "lastName": "Holloway", "email": "priya@example.com"}
    database.contacts.insert_one({"_id": made.id, "organizationId": made.organization, **names})
    for length in lengths:
        conversation = ObjectId()
        database.conversations.insert_one({"_id": conversation, **ids, "isResolved": True})
        made.messages[conversation] = [ObjectId() for _ in range(length)]
        if length:
            database.messages.insert_many(
                {
                    "_id": each,
                    **ids,
                    "conversationId": conversation,
                    "content": f"Grüße {number} 😀",
                    "sender": "contact",
                    "timestamp": START + timedelta(seconds=number),
                }
                for number, each in enumerate(made.messages[conversation])
            )
    return made
