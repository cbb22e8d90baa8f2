"""The requests that callers send: what is refused, and with which message."""

import json
from types import MappingProxyType
from typing import Any

import pytest
from bson import ObjectId
from pydantic import model_validator

from worker.domain.requests import SnapshotRequest, body_hash
from worker.domain.validation import CamelModel
from worker.errors import InvalidRequest
from worker.settings import Settings, load

ORGANIZATION, CONTACT = "6a1b2c3d4e5f60718293a4b5", "6a1b2c3d4e5f60718293a4b6"
LIMITS = Settings.model_construct()


def body(**fields: Any) -> dict[str, Any]:
    return {"organizationId": ORGANIZATION, "contactId": CONTACT, **fields}


BAD: list[tuple[str, Any, str, str]] = [
    ("organization id that is no ObjectId", body(organizationId="acme"), "organizationId", "24 hex digits"),
    ("contact id that is a number", body(contactId=7), "contactId", "24 hex digits"),
    ("contact id of 12 characters", body(contactId="a" * 12), "contactId", "24 hex digits"),
    ("user id with a space", body(userId=f" {CONTACT[1:]}"), "userId", "24 hex digits"),
    ("conversation id of 25 digits", body(conversationId=f"{CONTACT}a"), "conversationId", "24 hex digits"),
    ("no organization", {"contactId": CONTACT}, "organizationId", "is required"),
    ("no contact", {"organizationId": ORGANIZATION}, "contactId", "is required"),
    ("10,001 tags", body(tags=["a"] * 10_001), "tags", "at most 50 tags, but has 10001"),
    ("tags that are text", body(tags="sales"), "tags", "an array"),
    ("tags that are null", body(tags=None), "tags", "an array"),
    ("tag that is a number", body(tags=["a", 1]), "tags.1", "a valid string"),
    ("long tag", body(tags=["a", "b" * 101]), "tags", "tag 1 should have at most 100 characters, but has 101"),
    ("blank tag", body(tags=[" "]), "tags", "tag 0 should not be blank"),
    ("tag with NUL", body(tags=["a\x00"]), "tags", "U+0000"),
    ("tag with a line break", body(tags=["a\nb"]), "tags", "U+000A"),
    ("tag with a lone surrogate", body(tags=["\ud800"]), "tags", "lone surrogate"),
    ("notes of 1 MB", body(notes="n" * 1_000_000), "notes", "at most 10000 characters, but has 1000000"),
    ("notes with NUL", body(notes="a\x00b"), "notes", "U+0000"),
    ("notes with ESC", body(notes="\x1b[31m"), "notes", "U+001B"),
    ("notes with DEL", body(notes="\x7f"), "notes", "U+007F"),
    ("notes with a C1 control", body(notes="\x85"), "notes", "U+0085"),
    ("notes with a lone surrogate", body(notes="ok \udfff"), "notes", "lone surrogate"),
    ("notes that are an object", body(notes={"$gt": ""}), "notes", "a valid string"),
    ("long quality", body(quality="q" * 101), "quality", "at most 100 characters, but has 101"),
    ("category with a tab", body(category="a\tb"), "category", "U+0009"),
    ("no message ids", body(messageIds=[]), "messageIds", "at least one message"),
    ("message ids that are text", body(messageIds=CONTACT), "messageIds", "an array"),
    ("message id that is none", body(messageIds=[CONTACT, "x"]), "messageIds.1", "24 hex digits"),
    ("repeated message id", body(messageIds=[CONTACT, CONTACT]), "messageIds", f"but repeats {CONTACT}"),
    (
        "10,001 message ids",
        body(messageIds=[f"{n:024x}" for n in range(10_001)]),
        "messageIds",
        "at most 10000 message ids, but has 10001",
    ),
    ("empty request id", body(requestId=""), "requestId", "1 to 200 characters"),
    ("long request id", body(requestId="r" * 201), "requestId", "1 to 200 characters, but has 201"),
    ("request id with a derived prefix", body(requestId="task:1"), "requestId", "reserved prefixes"),
    ("request id of a stream entry", body(requestId="stream:1-0"), "requestId", "reserved prefixes"),
    ("request id of a closing", body(requestId="resolved:x"), "requestId", "reserved prefixes"),
    ("request id of a backfill", body(requestId="all:x"), "requestId", "reserved prefixes"),
    ("request id with white space", body(requestId=" a"), "requestId", "white space"),
    ("request id with NUL", body(requestId="a\x00"), "requestId", "U+0000"),
    ("request id that is null-like", body(requestId=0), "requestId", "a valid string"),
    ("unknown field", body(status="completed"), "status", "unknown field; the allowed fields are organizationId"),
    (
        "field in snake case",
        {"organization_id": ORGANIZATION, "contactId": CONTACT},
        "organization_id",
        "unknown field",
    ),
    ("body that is an array", [body()], "body", "should be a JSON object, not an array"),
    ("body that is null", None, "body", "not null"),
    ("body that is text", json.dumps(body()), "body", "not a string"),
    ("body that is a number", 5, "body", "not a number"),
    ("body that is a boolean", True, "body", "not a boolean"),
]


@pytest.mark.parametrize(("sent", "field", "said"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_bad_request_is_refused_with_the_field_and_the_reason(sent: Any, field: str, said: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        SnapshotRequest.read(sent, LIMITS)
    faults = {each["field"]: each["message"] for each in caught.value.errors}
    assert said in faults[field]
    assert caught.value.code == "invalid_request"


def test_error_never_repeats_the_values() -> None:
    with pytest.raises(InvalidRequest) as caught:
        SnapshotRequest.read(
            body(notes="Priya's number is 555\x00", tags=["Priya\x00"], quality={"a": "Priya"}), LIMITS
        )
    assert "Priya" not in json.dumps(caught.value.outcome())
    assert "555" not in json.dumps(caught.value.outcome())


def test_name_of_an_unknown_field_is_escaped_and_truncated() -> None:
    with pytest.raises(InvalidRequest) as caught:
        SnapshotRequest.read(body(**{"\ud800": 1, "x\x00" + "y" * 1_000_000: 1}), LIMITS)
    assert len(caught.value.message) < 1000
    caught.value.message.encode()
    assert "\x00" not in caught.value.message


def test_at_most_20_faults_are_named() -> None:
    with pytest.raises(InvalidRequest) as caught:
        SnapshotRequest.read(body(contactId=1, **{f"unknown{number}": 1 for number in range(90_000)}), LIMITS)
    assert [fault["field"] for fault in caught.value.errors] == ["contactId", *(f"unknown{n}" for n in range(19))]


@pytest.mark.parametrize("name", ["messageIds", "tags"])
def test_the_length_of_an_array_is_checked_before_its_items(name: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        SnapshotRequest.read(body(**{name: [1] * 10_001}), LIMITS)
    (fault,) = caught.value.errors
    assert "but has 10001" in fault["message"]


def test_an_array_of_faulty_items_costs_one_fault() -> None:
    with pytest.raises(InvalidRequest) as caught:
        SnapshotRequest.read(body(messageIds=[1] * 10_000), LIMITS)
    assert [fault["field"] for fault in caught.value.errors] == ["messageIds.0"]


def test_all_fields_are_read() -> None:
    message = str(ObjectId())
    request = SnapshotRequest.read(
        body(
            conversationId=CONTACT,
            messageIds=[message],
            userId=CONTACT,
            notes="Zwei\nZeilen\tund 😀",
            tags=["良い", "sales"],
            quality="good",
            category="",
            requestId="mine:1",
        ),
        LIMITS,
    )
    assert request.body() == {
        "organizationId": ObjectId(ORGANIZATION),
        "contactId": ObjectId(CONTACT),
        "conversationId": ObjectId(CONTACT),
        "messageIds": [ObjectId(message)],
        "userId": ObjectId(CONTACT),
        "notes": "Zwei\nZeilen\tund 😀",
        "tags": ["良い", "sales"],
        "quality": "good",
        "category": "",
    }
    assert request.request_id == "mine:1"


def test_limits_come_from_the_settings() -> None:
    tight = load(max_tags=1, max_notes_length=3, max_message_ids=1, max_label_length=2, max_tag_length=2)
    sent = body(
        tags=["a", "b"], notes="four", quality="bad", category="bad", messageIds=[f"{n:024x}" for n in range(2)]
    )
    with pytest.raises(InvalidRequest) as caught:
        SnapshotRequest.read(sent, tight)
    assert {each["field"] for each in caught.value.errors} == {"tags", "notes", "quality", "category", "messageIds"}
    assert SnapshotRequest.read(body(tags=["ab"], notes="abc", quality="ok"), tight).tags == ["ab"]


def test_the_hash_does_not_depend_on_the_order_of_fields() -> None:
    one = SnapshotRequest.read(body(notes="a", quality="b"), LIMITS)
    other = SnapshotRequest.read({"quality": "b", "notes": "a", "tags": [], **body(), "requestId": "x"}, LIMITS)
    assert body_hash(one.body()) == body_hash(other.body())
    assert body_hash(one.body()) != body_hash(SnapshotRequest.read(body(notes="a"), LIMITS).body())


def test_an_object_is_checked_without_a_copy_and_a_token_adds_to_one_copy() -> None:
    checked: list[Any] = []

    class Seen(CamelModel):
        first: int
        second: int

        @model_validator(mode="before")
        @classmethod
        def _note(cls, values: Any) -> Any:
            checked.append(values)
            return values

    sent = {"first": 1, "second": 2}
    Seen.read(sent)
    Seen.read(MappingProxyType(sent))
    Seen.read(part := {"first": 1}, given={"second": 2})
    assert checked == [sent] * 3
    assert checked[0] is sent
    assert part == {"first": 1}
