"""The platform's data: organizations with contacts, conversations and messages, and requests for snapshots of them."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from bson import ObjectId
from pymongo.database import Database

COMPLETED = "completed"
_ORGANIZATIONS = 3
_CONTACTS = 150
_PEOPLE = 20
_BATCH = 2000
_NAMED = {"stream": 0.7, "task": 0.3}
"""The share of requests with a request id, in channels that do not need one. The driver may send these again."""
_WORDS = (
    *("thanks", "order", "late", "refund", "please", "hello", "card", "address", "tomorrow", "invoice"),
    *("parcel", "sorry", "great", "谢谢", "سلام", "😀"),
)


@dataclass(frozen=True)
class PlannedRequest:
    """A request before it is sent: its body in camelCase, and the outcome that it must have."""

    token: str
    channel: str
    body: dict[str, Any]
    expected: str
    messages: int
    request_id: str | None


@dataclass
class Contact:
    """A contact with one conversation, which has these messages."""

    organization: ObjectId
    id: ObjectId
    conversation: ObjectId
    messages: list[ObjectId]
    texts: tuple[str, ...] = ()
    """E-mail address, phone number and name, if the contact is to be erased."""


@dataclass
class Dataset:
    """The content of the source collections."""

    dice: random.Random
    contacts: list[Contact] = field(default_factory=list)
    empty: list[Contact] = field(default_factory=list)
    closings: list[Contact] = field(default_factory=list)
    """Contacts with an open conversation, each of which is closed once."""
    organizations: list[ObjectId] = field(default_factory=list)
    flooding: list[Contact] = field(default_factory=list)
    """The only contact of an organization that sends thousands of requests at once."""
    people: list[Contact] = field(default_factory=list)
    """Contacts to erase, in an organization of their own, whose requests the driver does not record."""
    _numbers: Iterator[int] = field(default_factory=count)

    def fill(self, database: Database[dict[str, Any]], closings: int) -> None:
        """Inserts everything, with so many open conversations."""
        self.organizations = [ObjectId() for _ in range(_ORGANIZATIONS + 2)]
        users = [{"_id": ObjectId(), "organizationId": each, "email": "a@b.test"} for each in self.organizations]
        database.users.insert_many(users)
        plans = [(self.contacts, self.dice.randint(2, 12)) for _ in range(_ORGANIZATIONS * _CONTACTS)]
        plans += [(self.empty, 0)] * 20 + [(self.closings, self.dice.randint(2, 6)) for _ in range(closings)]
        documents: dict[str, list[dict[str, Any]]] = {"contacts": [], "conversations": [], "messages": []}
        for number, (kind, messages) in enumerate(plans):
            kind.append(self._contact(self.organizations[number % _ORGANIZATIONS], messages, documents))
        self.flooding.append(self._contact(self.organizations[-1], 3, documents))
        for number in range(_PEOPLE):
            person = self._contact(self.erasing, 3, documents)
            email, phone, name = f"zoe.{person.id}@example.org", f"+4930{number:07d}", f"Zephyrine{number} Quillfeather"
            person.texts = email, phone, name
            documents["contacts"][-1] |= {
                "email": email,
                "phoneNumber": phone,
                **dict(zip(("firstName", "lastName"), name.split(), strict=True)),
            }
            self.people.append(person)
        for name, inserted in documents.items():
            for first in range(0, len(inserted), _BATCH):
                database[name].insert_many(inserted[first : first + _BATCH])

    @property
    def erasing(self) -> ObjectId:
        """The organization of the contacts to erase."""
        return self.organizations[-2]

    def _contact(self, organization: ObjectId, messages: int, into: dict[str, list[dict[str, Any]]]) -> Contact:
        contact, conversation = ObjectId(), ObjectId()
        start = datetime(2026, 5, 1, tzinfo=UTC) + timedelta(seconds=self.dice.randrange(10**6))
        mine = {"organizationId": organization, "contactId": contact}
        into["contacts"].append(
            {
                "_id": contact,
                "organizationId": organization,
                "firstName": f"Ada {contact}",
                "phoneNumber": "+4930",
                "channelType": "WHATSAPP",
            }
        )
        into["conversations"].append({"_id": conversation, **mine, "isResolved": False, "createdAt": start})
        ids = [ObjectId() for _ in range(messages)]
        into["messages"] += [
            {
                "_id": key,
                **mine,
                "conversationId": conversation,
                "content": " ".join(self.dice.choices(_WORDS, k=self.dice.randint(3, 40))),
                "direction": "inbound" if number % 2 == 0 else "outbound",
                "timestamp": start + timedelta(minutes=number),
            }
            for number, key in enumerate(ids)
        ]
        return Contact(organization, contact, conversation, ids)

    def requests(self, number_of: int, channels: list[str]) -> Iterator[PlannedRequest]:
        """Yields `number_of` requests, each with its own token; closings as long as there are open conversations."""
        open_ones = iter(self.closings)
        for number in range(number_of):
            token = self._token()
            channel = channels[number % len(channels)]
            closing = next(open_ones, None) if channel == "closing" else None
            if closing is not None:
                body = {"organizationId": str(closing.organization), "conversationId": str(closing.conversation)}
                yield PlannedRequest(token, channel, body, COMPLETED, len(closing.messages), None)
            else:
                yield self._request(token, "bulk" if channel == "closing" else channel)

    def flood(self, number_of: int) -> list[PlannedRequest]:
        """Requests of one organization, all for the same contact: a tenth through HTTP, three tenths as Celery
        messages, the others through the intake stream. A tenth are messages without a request id, another tenth XADDs.
        """
        (contact,) = self.flooding
        body = {"organizationId": str(contact.organization), "contactId": str(contact.id)}
        requests = []
        for number in range(number_of):
            token = self._token()
            channel = {0: "http", 2: "task", 3: "task", 4: "task"}.get(number % 10, "burst")
            mine = {**body, "tags": [token]}
            request_id = None if number % 10 in {1, 2} else f"chaos-{token}"
            requests.append(PlannedRequest(token, channel, mine, COMPLETED, len(contact.messages), request_id))
        return requests

    def _token(self) -> str:
        return f"n{next(self._numbers):07d}"

    def _request(self, token: str, channel: str) -> PlannedRequest:
        contact, expected = self.dice.choice(self.contacts), COMPLETED
        body: dict[str, Any] = {}
        messages = len(contact.messages)
        lot = self.dice.random()
        # HTTP checks first, and refuses a missing contact or message.
        if lot < 0.05 and channel != "http":
            expected, body["contactId"] = "contact_not_found", str(ObjectId())
        elif lot < 0.10 and channel != "http":
            contact, expected = self.dice.choice(self.empty), "empty_conversation"
        elif lot < 0.13 and channel != "http":
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
        named = channel not in _NAMED or self.dice.random() < _NAMED[channel]
        return PlannedRequest(token, channel, body, expected, messages, f"chaos-{token}" if named else None)
