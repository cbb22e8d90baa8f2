"""Snapshot documents as PyMongo returns them, for tests of pure code."""

from datetime import UTC, datetime, timedelta
from typing import Any

from bson import ObjectId

_START = datetime(2026, 5, 18, 14, 30, tzinfo=UTC)


def snapshot(*said: tuple[str, Any], **fields: Any) -> dict[str, Any]:
    """A snapshot of messages, each as (sender, content); `fields` replace its other fields."""
    messages = [
        {
            "id": f"{number:024x}",
            "content": content,
            "sender": sender,
            "senderType": "HUMAN" if sender == "user" else "CONTACT",
            "timestamp": _START + timedelta(seconds=number),
        }
        for number, (sender, content) in enumerate(said)
    ]
    return {
        "_id": ObjectId("665f00000000000000000001"),
        "organizationId": ObjectId("665f0000000000000000000a"),
        "userId": None,
        "contactId": ObjectId("665f0000000000000000000b"),
        "customerName": "Ada Lovelace",
        "customerPhone": "+15550100",
        "customerEmail": "ada@example.com",
        "messageCount": len(messages),
        "snapshotDate": _START + timedelta(days=1),
        "conversationStartDate": _START,
        "conversationEndDate": _START + timedelta(seconds=max(len(messages) - 1, 0)),
        "notes": None,
        "tags": ["refund"],
        "quality": None,
        "category": None,
        "isArchived": False,
        "requestId": "r-1",
        "conversationId": ObjectId("665f0000000000000000000c"),
        "trigger": "api",
        "supersedes": None,
        "contentHash": "0" * 64,
        "createdAt": _START + timedelta(days=1),
        "updatedAt": _START + timedelta(days=1),
        "__v": 0,
        "messages": messages,
    } | fields


def naive(value: Any) -> Any:
    """The value with its dates, which are in UTC, without a time zone, as exports read them."""
    match value:
        case datetime():
            assert value.utcoffset() in {None, timedelta(0)}
            return value.replace(tzinfo=None)
        case dict():
            return {name: naive(each) for name, each in value.items()}
        case list():
            return [naive(each) for each in value]
        case _:
            return value
