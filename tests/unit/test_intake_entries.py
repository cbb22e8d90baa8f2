"""Entries of the intake stream: what they ask for, and the errors of those that cannot be read."""

import json
from typing import Any

import pytest
from bson import ObjectId

from worker.domain.requests import ConversationResolved
from worker.errors import InvalidRequest
from worker.intake.entries import read_entry
from worker.service import NewRequest
from worker.settings import Settings
from worker.stores.wakeups import BULK

LIMITS = Settings.model_construct()
ENTRY_ID = "1763800000000-7"
ORGANIZATION, CONTACT, CONVERSATION = "6a0000000000000000000001", "6a0000000000000000000002", "6a0000000000000000000003"


def request(**fields: Any) -> dict[bytes, bytes]:
    data = {"organizationId": ORGANIZATION, "contactId": CONTACT} | fields
    return {b"type": b"snapshot.requested", b"data": json.dumps(data).encode()}


def raw(data: bytes, kind: bytes = b"snapshot.requested") -> dict[bytes, bytes]:
    return {b"type": kind, b"data": data}


def without(field: str) -> dict[bytes, bytes]:
    data = {"organizationId": ORGANIZATION, "contactId": CONTACT}
    del data[field]
    return raw(json.dumps(data).encode())


BROKEN: dict[str, tuple[dict[bytes, bytes], str, str]] = {
    "no type": ({b"data": b"{}"}, "type", "is required: snapshot.requested or conversation.resolved"),
    "another type": (raw(b"{}", b"snapshot.deleted"), "type", "should be snapshot.requested or conversation.resolved"),
    "a type that is no UTF-8": (raw(b"{}", b"\xff\xfe"), "type", "should be snapshot.requested or"),
    "no data": ({b"type": b"snapshot.requested"}, "data", "is required"),
    "empty data": (raw(b""), "data", "should be valid JSON: EOF while parsing a value"),
    "data that is no UTF-8": (raw(b'{"notes": "\xe9"}'), "data", "should be JSON in UTF-8, but byte 11"),
    "cut off JSON": (raw(b'{"organizationId": "6a'), "data", "should be valid JSON: EOF while parsing a string"),
    "JavaScript instead of JSON": (raw(b"{organizationId: 1}"), "data", "should be valid JSON: key must be a string"),
    "two JSON values": (raw(b"{}{}"), "data", "should be valid JSON: trailing characters"),
    "NaN": (raw(b'{"notes": NaN}'), "data", "should be valid JSON: expected value"),
    "deep nesting": (raw(b"[" * 10_000), "data", "should be valid JSON: recursion limit exceeded"),
    "too many values": (
        raw(b"[" * 100_000),
        "data",
        "contains 100000 commas and brackets;",
    ),
    "half of a surrogate pair": (
        raw(rb'{"notes": "\ud800"}'),
        "data",
        "should be valid JSON: unexpected end of hex escape",
    ),
    "an array": (raw(b"[]"), "data", "should be a JSON object, not an array"),
    "a string": (raw(b'"{}"'), "data", "should be a JSON object, not a string"),
    "null": (raw(b"null"), "data", "should be a JSON object, not null"),
    "no organization": (without("organizationId"), "organizationId", "is required"),
    "no contact": (without("contactId"), "contactId", "is required"),
    "an id of 23 digits": (request(contactId="6" * 23), "contactId", "should be an ObjectId of 24 hex digits"),
    "an id as a number": (request(contactId=7), "contactId", "should be an ObjectId of 24 hex digits"),
    "an id as extended JSON": (request(contactId={"$oid": CONTACT}), "contactId", "should be an ObjectId"),
    "a field in snake_case": (request(contact_id=CONTACT), "contact_id", "unknown field; the allowed fields are"),
    "an unknown field": (request(priority=1), "priority", "unknown field; the allowed fields are organizationId"),
    "notes as a number": (request(notes=5), "notes", "should be a valid string"),
    "notes too long": (request(notes="x" * 10_001), "notes", "should have at most 10000 characters, but has 10001"),
    "a control character": (
        request(notes="a\x00b"),
        "notes",
        "should not contain control characters, but contains U+0000",
    ),
    "tags as a string": (request(tags="vip"), "tags", "should be an array"),
    "a blank tag": (request(tags=["vip", " "]), "tags", "tag 1 should not be blank"),
    "too many tags": (request(tags=["t"] * 51), "tags", "should have at most 50 tags, but has 51"),
    "no messages": (request(messageIds=[]), "messageIds", "should name at least one message"),
    "a message twice": (request(messageIds=[CONTACT] * 2), "messageIds", "should name each message once"),
    "a wrong message id": (request(messageIds=[CONTACT, "x"]), "messageIds.1", "should be an ObjectId"),
    "an empty request id": (request(requestId=""), "requestId", "should have 1 to 200 characters, but has 0"),
    "a long request id": (request(requestId="r" * 201), "requestId", "should have 1 to 200 characters, but has 201"),
    "a derived request id": (request(requestId="stream:1-1"), "requestId", "should not begin with stream:, task:"),
    "a closing without conversation": (
        raw(json.dumps({"organizationId": ORGANIZATION}).encode(), b"conversation.resolved"),
        "conversationId",
        "is required",
    ),
    "a closing of an array": (raw(b"[]", b"conversation.resolved"), "data", "should be a JSON object, not an array"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_entry_is_refused_with_the_field_the_fault_and_what_is_allowed(name: str) -> None:
    entry, field, fault = BROKEN[name]
    with pytest.raises(InvalidRequest) as caught:
        read_entry(entry, ENTRY_ID, LIMITS)
    (error,) = caught.value.errors
    assert error["field"] == field
    assert error["message"].startswith(fault)
    assert caught.value.code == "invalid_request"


def test_every_fault_of_an_entry_is_named() -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_entry(request(contactId="x", tags=[""], requestId="all:1"), ENTRY_ID, LIMITS)
    assert [each["field"] for each in caught.value.errors] == ["contactId", "tags", "requestId"]


def test_a_refusal_repeats_nothing_of_the_entry() -> None:
    secrets = [raw(b'{"notes": "Priya Holloway'), raw(b'"Priya Holloway"'), request(notes=["Priya Holloway"])]
    for entry in secrets:
        with pytest.raises(InvalidRequest) as caught:
            read_entry(entry, ENTRY_ID, LIMITS)
        assert "Priya" not in json.dumps(caught.value.outcome())


def test_a_request_without_an_id_gets_one_derived_from_its_entry() -> None:
    asked = read_entry(request(), ENTRY_ID, LIMITS)
    assert isinstance(asked, NewRequest)
    assert asked.request_id == f"stream:{ENTRY_ID}"
    assert asked.trigger == "stream"
    assert asked.request.contact_id == ObjectId(CONTACT)


def test_a_request_keeps_its_own_id_and_all_fields() -> None:
    fields = {
        "requestId": "order-17",
        "conversationId": CONVERSATION,
        "messageIds": [CONTACT],
        "notes": "good\nanswer 🙂",
        "tags": ["vip"],
        "quality": "high",
        "category": "sales",
    }
    asked = read_entry(request(**fields), ENTRY_ID, LIMITS, BULK)
    assert isinstance(asked, NewRequest)
    assert asked.request_id == "order-17"
    assert asked.queue == BULK
    assert asked.request.model_dump(by_alias=True, exclude={"organization_id", "contact_id", "user_id"}) == fields


def test_fields_other_than_type_and_data_are_ignored() -> None:
    asked = read_entry(request() | {b"traceparent": b"00-1-2-01"}, ENTRY_ID, LIMITS)
    assert isinstance(asked, NewRequest)
    assert asked.trigger == "stream"


def test_an_entry_from_our_client_is_recognized() -> None:
    asked = read_entry(request() | {b"client": b"python"}, ENTRY_ID, LIMITS)
    assert isinstance(asked, NewRequest)
    assert asked.trigger == "client"


def test_a_closing_names_the_conversation() -> None:
    data = json.dumps({"organizationId": ORGANIZATION, "conversationId": CONVERSATION}).encode()
    closing = read_entry(raw(data, b"conversation.resolved"), ENTRY_ID, LIMITS)
    assert isinstance(closing, ConversationResolved)
    assert closing.conversation_id == ObjectId(CONVERSATION)
