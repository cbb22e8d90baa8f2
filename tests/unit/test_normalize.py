"""The conversion of each field of a message: the rows of the table in worker/domain/normalize.py."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from bson import Code, DatetimeMS, Decimal128, ObjectId

from worker.domain.assembly import encode_messages
from worker.domain.normalize import describe, order, shape

KEY = ObjectId("6a1b2c3d0000000000000000")
MOMENT = datetime(2026, 5, 18, 14, 30, 0, 123000, tzinfo=UTC)
MS = 1779114600123
KEY_MS = 0x6A1B2C3D * 1000


def shaped(**fields: Any) -> dict[str, Any]:
    return shape({"_id": KEY, "content": "Hi", "timestamp": MOMENT, "direction": "inbound", **fields})


FIELDS: list[tuple[dict[str, Any], str, Any]] = [
    ({}, "id", str(KEY)),
    ({"_id": 42}, "id", "42"),
    ({"_id": "m-1"}, "id", "m-1"),
    ({"content": ""}, "content", ""),
    ({"content": "😀\x00\n"}, "content", "😀\x00\n"),
    ({"content": None}, "content", ""),
    ({"content": 7}, "content", "7"),
    ({"content": ["a", 1]}, "content", '["a", 1]'),
    ({"content": {"text": "日本"}}, "content", '{"text": "日本"}'),
    ({"content": Decimal128("1.5")}, "content", '{"$numberDecimal": "1.5"}'),
    ({"timestamp": MOMENT}, "timestamp", MS),
    ({"timestamp": DatetimeMS(-(10**15))}, "timestamp", -(10**15)),
    ({"timestamp": None, "createdAt": MOMENT}, "timestamp", MS),
    ({"timestamp": "2026-05-18T14:30:00.123Z"}, "timestamp", MS),
    ({"timestamp": "2026-05-18T16:30:00.123+02:00"}, "timestamp", MS),
    ({"timestamp": "2026-05-18T14:30:00.123"}, "timestamp", MS),
    ({"timestamp": MS / 1000}, "timestamp", MS),
    ({"timestamp": MS}, "timestamp", MS),
    ({"timestamp": "yesterday", "createdAt": MOMENT}, "timestamp", MS),
    ({"timestamp": "1779101200123", "createdAt": MOMENT}, "timestamp", MS),
    ({"timestamp": "20260518T143000.123Z"}, "timestamp", MS),
    ({"timestamp": True, "createdAt": "never"}, "timestamp", KEY_MS),
    ({"timestamp": float("nan"), "createdAt": float("inf")}, "timestamp", KEY_MS),
    ({"timestamp": None}, "timestamp", KEY_MS),
    ({"timestamp": None, "_id": "m-1"}, "timestamp", 0),
    ({}, "sender", "contact"),
    ({"direction": "outbound"}, "sender", "user"),
    ({"sender": "bot"}, "sender", "bot"),
    ({"sender": 5, "direction": "outbound"}, "sender", "user"),
    ({"direction": "sideways", "senderType": "CONTACT"}, "sender", "contact"),
    ({"direction": None, "senderType": "AI"}, "sender", "user"),
    ({"direction": ["inbound"]}, "sender", "contact"),
    ({"direction": None}, "sender", "contact"),
    ({}, "senderType", "CONTACT"),
    ({"direction": "outbound"}, "senderType", "HUMAN"),
    ({"direction": "outbound", "isAIGenerated": True}, "senderType", "AI"),
    ({"direction": "outbound", "isAIGenerated": 1}, "senderType", "HUMAN"),
    ({"senderType": "BOT", "isAIGenerated": True}, "senderType", "BOT"),
    ({"senderType": 1, "isAIGenerated": False}, "senderType", "CONTACT"),
    ({"direction": None, "sender": "user"}, "senderType", "HUMAN"),
    ({"direction": None, "sender": "contact"}, "senderType", "CONTACT"),
    ({"direction": None, "sender": "bot"}, "senderType", "CONTACT"),
]


@pytest.mark.parametrize(
    ("fields", "name", "value"), FIELDS, ids=[f"{n}-{name}-{fields}" for n, (fields, name, _) in enumerate(FIELDS)]
)
def test_message_field_is_converted(fields: dict[str, Any], name: str, value: Any) -> None:
    found = shaped(**fields)[name]
    assert (int(found) if name == "timestamp" else found) == value


@pytest.mark.parametrize("name", ["content", "sender", "senderType"])
def test_javascript_is_stored_as_plain_text(name: str) -> None:
    found = shaped(**{name: Code("return 1")})[name]
    assert (found, type(found)) == ("return 1", str)


@pytest.mark.parametrize(("direction", "sender"), [("outbound", "user"), ("x", "contact")])
def test_direction_that_is_javascript_is_read_as_text(direction: str, sender: str) -> None:
    assert shaped(sender=None, senderType=None, direction=Code(direction))["sender"] == sender


def test_other_fields_are_omitted() -> None:
    assert list(shaped(attachments=[{"url": "https://x"}], speaker="A")) == [
        "id",
        "content",
        "sender",
        "senderType",
        "timestamp",
    ]


def test_date_with_another_offset_is_the_same_time() -> None:
    with_offset = MOMENT.astimezone(timezone(timedelta(hours=-7)))
    assert int(shaped(timestamp=with_offset)["timestamp"]) == MS


def test_equal_times_are_ordered_by_id_and_ids_of_any_type_have_an_order() -> None:
    keys: list[Any] = [{"a": 1}, "b", 2, 1.5, "a", ObjectId(), ObjectId(), None, b"x"]
    ordered = sorted(({"_id": key, "timestamp": MOMENT} for key in keys), key=order)
    assert [each["_id"] for each in ordered if isinstance(each["_id"], str)] == ["a", "b"]
    assert len(ordered) == len(keys)


def test_single_message_is_both_start_and_end() -> None:
    messages = encode_messages([{"_id": KEY, "timestamp": MOMENT}])
    assert messages is not None
    assert int(messages.started_at) == int(messages.ended_at) == MS


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (" Ana ", "Ana"),
        ("", ""),
        (None, None),
        (15550100, "15550100"),
        (15551234567.0, "15551234567"),
        (True, None),
        ({"a": 1}, None),
        (1.5, None),
    ],
)
def test_contact_field_is_converted_to_text(value: Any, text: str | None) -> None:
    assert describe(value) == text
