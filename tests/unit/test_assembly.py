"""The assembly of a snapshot from a request and a conversation."""

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import bson
import pytest
from bson import ObjectId
from bson.codec_options import CodecOptions

from worker.domain.assembly import (
    LARGEST,
    Conversation,
    assemble,
    customer_name,
    decode_messages,
    encode_messages,
    replace_messages,
)
from worker.domain.ledger_entry import LedgerEntry
from worker.errors import EmptyConversation, SnapshotTooLarge

NOW = datetime(2026, 5, 18, 14, 30, tzinfo=UTC)
START = datetime(2026, 5, 13, 13, 0, tzinfo=UTC)
REQUEST: LedgerEntry = {
    "_id": ObjectId(),
    "organizationId": ObjectId(),
    "contactId": ObjectId(),
    "requestId": "mine",
    "bodyHash": "",
    "status": "accepted",
    "round": 0,
    "trigger": "api",
    "tags": ["sales"],
}
CONTACT = {"firstName": " Priya ", "lastName": "Holloway", "phoneNumber": "+15550100", "email": "p@example.com"}


def message(minute: int, text: str = "Hi") -> dict[str, Any]:
    return {
        "_id": ObjectId(),
        "content": text,
        "timestamp": START + timedelta(minutes=minute),
        "sender": "user",
        "senderType": "AI",
    }


def assembled(messages: list[dict[str, Any]]) -> dict[str, Any]:
    snapshot = assemble(REQUEST, Conversation(CONTACT, encode_messages(messages)), NOW)
    return bson.decode(snapshot.document.raw, CodecOptions(tz_aware=True))


def test_snapshot_has_all_documented_fields() -> None:
    later, earlier = message(5), message(0)
    document = assembled([later, earlier])
    assert document == {
        "_id": REQUEST["_id"],
        "organizationId": REQUEST["organizationId"],
        "userId": None,
        "contactId": REQUEST["contactId"],
        "customerName": "Priya Holloway",
        "customerPhone": "+15550100",
        "customerEmail": "p@example.com",
        "messageCount": 2,
        "snapshotDate": NOW,
        "conversationStartDate": START,
        "conversationEndDate": START + timedelta(minutes=5),
        "notes": None,
        "tags": ["sales"],
        "quality": None,
        "category": None,
        "isArchived": False,
        "requestId": "mine",
        "conversationId": None,
        "trigger": "api",
        "supersedes": None,
        "contentHash": document["contentHash"],
        "createdAt": NOW,
        "updatedAt": NOW,
        "__v": 0,
        "messages": [
            {
                "id": str(each["_id"]),
                "content": "Hi",
                "sender": "user",
                "senderType": "AI",
                "timestamp": each["timestamp"],
            }
            for each in (earlier, later)
        ],
    }


def test_document_equals_what_bson_would_encode() -> None:
    snapshot = assemble(REQUEST, Conversation(CONTACT, encode_messages([message(n) for n in range(12)])), NOW)
    assert bson.encode(bson.decode(snapshot.document.raw)) == snapshot.document.raw
    assert snapshot.size == len(snapshot.document.raw)


def test_content_hash_covers_the_stored_bytes_of_the_messages() -> None:
    document = assembled([message(0), message(1, "日本 😀")])
    raw = bson.encode({"messages": document["messages"]})
    array = raw[4 + 1 + len("messages") + 1 : -1]
    assert document["contentHash"] == hashlib.sha256(array).hexdigest()


def test_conversation_without_messages_is_empty() -> None:
    with pytest.raises(EmptyConversation):
        assemble(REQUEST, Conversation(CONTACT, encode_messages([])), NOW)


def test_snapshot_may_have_exactly_16_mib_and_not_one_byte_more() -> None:
    def size(text: int) -> int:
        return assemble(REQUEST, Conversation(CONTACT, encode_messages([message(0, "a" * text)])), NOW).size

    room = LARGEST - size(0)
    assert size(room) == LARGEST
    with pytest.raises(SnapshotTooLarge) as caught:
        size(room + 1)
    assert caught.value.details == {"bytes": LARGEST + 1, "limit": LARGEST}


@pytest.mark.parametrize(
    ("contact", "name"),
    [
        ({"firstName": "Priya", "lastName": "Holloway"}, "Priya Holloway"),
        ({"firstName": "Priya", "lastName": ""}, "Priya"),
        ({"lastName": " Holloway "}, "Holloway"),
        ({"firstName": None, "lastName": None}, ""),
        ({"firstName": ["x"], "lastName": 7}, "7"),
        ({}, ""),
    ],
)
def test_customer_name_is_joined_from_its_parts(contact: dict[str, Any], name: str) -> None:
    assert customer_name(contact) == name


def test_replaced_messages_are_those_of_the_changed_documents() -> None:
    sources = [{"_id": ObjectId(), "content": f"{number}é", "timestamp": START} for number in range(120)]
    messages = encode_messages(sources)
    assert messages is not None
    changed = {0: "[NAME_1]", 9: "", 10: "longer than it was", 119: "[EMAIL_1]"}
    documents = decode_messages(messages)
    for place, content in changed.items():
        documents[place] = documents[place] | {"content": content}
    replaced = replace_messages(messages, {place: documents[place] for place in changed})
    assert replaced.encoded == bson.encode({"messages": documents})[14:-1]
    assert (replaced.count, replaced.ended_at) == (messages.count, messages.ended_at)
