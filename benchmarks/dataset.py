"""The data and the requests of all contenders: one conversation for each contact."""

import random
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from bson import ObjectId
from pymongo.database import Database

Document = dict[str, Any]

ORGANIZATIONS = [ObjectId(f"{0xA0000000 + number:024x}") for number in range(5)]
LABELS = {
    "userId": f"{0xB0000001:024x}",
    "notes": "good closing, polite",
    "tags": ["sales", "won"],
    "quality": "high",
    "category": "closing",
}
"""The labels of every request."""
_CONTACTS, _CONVERSATIONS = 0xC0000000, 0xD0000000
_BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
_BATCH = 10_000
_WORDS = (
    *("hello", "please", "order", "delivery", "thanks", "price"),
    *("tomorrow", "invoice", "problem", "great", "refund", "question"),
)


def contact_id(number: int) -> ObjectId:
    return ObjectId(f"{_CONTACTS + number:024x}")


def conversation_id(number: int) -> ObjectId:
    return ObjectId(f"{_CONVERSATIONS + number:024x}")


def organization_of(number: int) -> ObjectId:
    return ORGANIZATIONS[number % len(ORGANIZATIONS)]


def text(dice: random.Random) -> str:
    """Return a text of 120 characters."""
    words = ""
    while len(words) < 120:
        words += dice.choice(_WORDS) + " "
    return words[:120]


def _contact(number: int) -> Document:
    return {
        "_id": contact_id(number),
        "organizationId": organization_of(number),
        "firstName": f"First{number}",
        "lastName": f"Last{number}",
        "phoneNumber": f"+1555{number:07d}",
        "email": f"c{number}@example.org",
        "channelType": "whatsapp",
    }


def _conversation(number: int) -> Document:
    """Return an open conversation: the listener would make snapshots of closed ones."""
    return {
        "_id": conversation_id(number),
        "organizationId": organization_of(number),
        "contactId": contact_id(number),
        "isResolved": False,
    }


def messages_of(number: int, count: int, dice: random.Random) -> list[Document]:
    """Return the messages of one conversation."""
    return [
        {
            "_id": ObjectId(),
            "organizationId": organization_of(number),
            "contactId": contact_id(number),
            "conversationId": conversation_id(number),
            "content": text(dice),
            "sender": "agent1" if turn % 2 else f"First{number}",
            "senderType": "agent" if turn % 2 else "customer",
            "timestamp": _BEGINNING + timedelta(minutes=number % 1000, seconds=37 * turn),
        }
        for turn in range(count)
    ]


def seed(database: Database[Document], contacts: int, messages: int, first: int = 0) -> None:
    """Add contacts from number `first` on."""
    seed_numbers(database, range(first, first + contacts), messages)


def seed_numbers(database: Database[Document], numbers: Sequence[int], messages: int) -> None:
    """Add the contacts of these numbers; their messages are stored in shuffled order, as in production."""
    dice = random.Random(1)
    database.contacts.insert_many([_contact(number) for number in numbers])
    database.conversations.insert_many([_conversation(number) for number in numbers])
    documents = [message for number in numbers for message in messages_of(number, messages, dice)]
    dice.shuffle(documents)
    for start in range(0, len(documents), _BATCH):
        database.messages.insert_many(documents[start : start + _BATCH], ordered=False)


def bodies(count: int, contacts: int, tag: str, *, by_conversation: bool = False) -> Iterator[Document]:
    """Yield requests as JSON objects in camelCase: contacts in shuffled order, repeatedly."""
    order = list(range(contacts))
    random.Random(7).shuffle(order)
    for turn in range(count):
        number = order[turn % contacts]
        body = {
            "organizationId": str(organization_of(number)),
            "contactId": str(contact_id(number)),
            "requestId": f"{tag}-{turn:08d}",
            **LABELS,
        }
        yield body | {"conversationId": str(conversation_id(number))} if by_conversation else body
