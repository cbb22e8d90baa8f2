"""The platform's side: organizations with contacts, conversations and messages, and requests about them."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from bson import ObjectId
from pymongo.database import Database

COMPLETED = "completed"
_ORGANIZATIONS = 3
_CONTACTS = 150
_BATCH = 2000
_WORDS = (
    *("thanks", "order", "late", "refund", "please", "hello", "card", "address", "tomorrow", "invoice"),
    *("parcel", "sorry", "great", "谢谢", "سلام", "😀"),
)


@dataclass(frozen=True)
class Wanted:
    """One request before it is sent: `body` in camelCase, and what has to become of it."""

    token: str
    way: str
    body: dict[str, Any]
    expected: str
    messages: int
    request_id: str | None


@dataclass
class Contact:
    """With one conversation, whose messages are these."""

    organization: ObjectId
    id: ObjectId
    conversation: ObjectId
    messages: list[ObjectId]


@dataclass
class World:
    """What is in the source collections."""

    dice: random.Random
    contacts: list[Contact] = field(default_factory=list)
    empty: list[Contact] = field(default_factory=list)
    closings: list[Contact] = field(default_factory=list)
    """Open conversations, each to be closed once."""
    organizations: list[ObjectId] = field(default_factory=list)

    def fill(self, database: Database[dict[str, Any]], closings: int) -> None:
        """Inserts everything."""
        self.organizations = [ObjectId() for _ in range(_ORGANIZATIONS)]
        users = [{"_id": ObjectId(), "organizationId": each, "email": "a@b.test"} for each in self.organizations]
        database.users.insert_many(users)
        plans = [(self.contacts, self.dice.randint(2, 12)) for _ in range(_ORGANIZATIONS * _CONTACTS)]
        plans += [(self.empty, 0)] * 20 + [(self.closings, self.dice.randint(2, 6)) for _ in range(closings)]
        documents: dict[str, list[dict[str, Any]]] = {"contacts": [], "conversations": [], "messages": []}
        for number, (kind, messages) in enumerate(plans):
            kind.append(self._contact(self.organizations[number % _ORGANIZATIONS], messages, documents))
        for name, found in documents.items():
            for first in range(0, len(found), _BATCH):
                database[name].insert_many(found[first : first + _BATCH])

    def _contact(self, organization: ObjectId, messages: int, into: dict[str, list[dict[str, Any]]]) -> Contact:
        key, conversation = ObjectId(), ObjectId()
        start = datetime(2026, 5, 1, tzinfo=UTC) + timedelta(seconds=self.dice.randrange(10**6))
        mine = {"organizationId": organization, "contactId": key}
        into["contacts"].append(
            {
                "_id": key,
                "organizationId": organization,
                "firstName": f"Ada {key}",
                "phoneNumber": "+4930",
                "channelType": "WHATSAPP",
            }
        )
        into["conversations"].append({"_id": conversation, **mine, "isResolved": False, "createdAt": start})
        ids = [ObjectId() for _ in range(messages)]
        into["messages"] += [
            {
                "_id": each,
                **mine,
                "conversationId": conversation,
                "content": " ".join(self.dice.choices(_WORDS, k=self.dice.randint(3, 40))),
                "direction": "inbound" if number % 2 == 0 else "outbound",
                "timestamp": start + timedelta(minutes=number),
            }
            for number, each in enumerate(ids)
        ]
        return Contact(organization, key, conversation, ids)

    def requests(self, count: int, ways: list[str]) -> Iterator[Wanted]:
        """So many, each with a token of its own; a closing for as long as there are open conversations."""
        open_ones = iter(self.closings)
        for number in range(count):
            token = f"n{number:07d}"
            way = ways[number % len(ways)]
            closing = next(open_ones, None) if way == "closing" else None
            if closing is not None:
                body = {"organizationId": str(closing.organization), "conversationId": str(closing.conversation)}
                yield Wanted(token, way, body, COMPLETED, len(closing.messages), None)
            else:
                yield self._request(token, "bulk" if way == "closing" else way)

    def _request(self, token: str, way: str) -> Wanted:
        contact, expected = self.dice.choice(self.contacts), COMPLETED
        body: dict[str, Any] = {}
        messages = len(contact.messages)
        lot = self.dice.random()
        # HTTP looks first, and refuses what is not there.
        if lot < 0.05 and way != "http":
            expected, body["contactId"] = "contact_not_found", str(ObjectId())
        elif lot < 0.10 and way != "http":
            contact, expected = self.dice.choice(self.empty), "empty_conversation"
        elif lot < 0.13 and way != "http":
            expected, body["messageIds"] = "messages_not_found", [str(ObjectId()), str(contact.messages[0])]
        elif lot < 0.3:
            chosen = self.dice.sample(contact.messages, self.dice.randint(1, len(contact.messages)))
            messages, body["messageIds"] = len(chosen), [str(each) for each in chosen]
        elif lot < 0.8:
            body["conversationId"] = str(contact.conversation)
        body = {
            "organizationId": str(contact.organization),
            "contactId": str(contact.id),
            "tags": [token],
            "quality": "good",
            **body,
        }
        named = way not in {"stream", "task"} or self.dice.random() < 0.7
        return Wanted(token, way, body, expected, messages, f"chaos-{token}" if named else None)
