"""The neutral form: what is parsed, what is refused, and with which message."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from worker.importing.neutral_form import MAX_LINE_BYTES, InvalidLine, parse

MESSAGE = {"content": "Hello", "sender": "contact", "timestamp": "2026-05-13T13:14:57.199Z"}


def line(message: dict[str, Any] | None = None, **fields: Any) -> bytes:
    whole = {"conversation": {"ref": "a-1"}, "messages": [MESSAGE | (message or {})]} | fields
    return json.dumps(whole).encode()


def refusal(content: bytes) -> str:
    with pytest.raises(InvalidLine) as caught:
        parse(content)
    return caught.value.message


def test_a_line_is_parsed_without_changing_its_text() -> None:
    text = "سلام\u0000 \r\n\u2028 👩🏽‍💻 \\ \ufeff e\u0301"
    read = parse(line({"content": text, "senderType": "HUMAN", "speaker": "Grad C"}))
    assert read.messages[0].content == text
    assert read.messages[0].sender_type == "HUMAN"
    assert read.messages[0].speaker == "Grad C"
    assert read.messages[0].timestamp == datetime(2026, 5, 13, 13, 14, 57, 199000, tzinfo=UTC)


def test_escaped_surrogate_pairs_are_one_character() -> None:
    assert parse(line().replace(b"Hello", rb"\ud83d\ude00")).messages[0].content == "😀"


def test_null_counts_as_absent() -> None:
    read = parse(line({"senderType": None, "speaker": None}, contact=None, agent={"email": None}))
    assert read.contact is None
    assert read.messages[0].sender_type is None


def test_unknown_fields_are_ignored() -> None:
    assert parse(line({"attachments": [1]}, extra={"a": 1})).header.ref == "a-1"


def test_a_time_with_an_offset_is_read_in_utc() -> None:
    read = parse(line({"timestamp": "2026-05-13T13:14:57.199+02:00"}))
    assert read.messages[0].timestamp == datetime(2026, 5, 13, 11, 14, 57, 199000, tzinfo=UTC)


@pytest.mark.parametrize(
    "timestamp",
    [
        "2026-05-13",
        "2026-05-13T13:14:57",
        "1700000000",
        1700000000.5,
        "2026-02-30T00:00:00Z",
        "2026-05-13T25:00:00Z",
        "9999-12-31T23:59:59-10:00",
        "0001-01-01T00:00:00+10:00",
        "yesterday",
        "",
        None,
    ],
)
def test_an_invalid_timestamp_is_refused(timestamp: object) -> None:
    assert refusal(line({"timestamp": timestamp})).startswith("messages[0].timestamp: should be ")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"not json", "Invalid JSON: "),
        (b"{\r\n", "Invalid JSON: EOF while parsing an object at column 1"),
        (line()[:-5], "Invalid JSON: EOF while parsing"),
        (line() + b" {}", "Invalid JSON: trailing characters"),
        (line().replace(b"Hello", b"\xff"), "Invalid JSON: not UTF-8 at column"),
        (line().replace(b"Hello", rb"\ud800"), "Invalid JSON: lone surrogate or broken \\u escape at column"),
        (line().replace(b"Hello", rb"\udc00"), "Invalid JSON: lone "),
        (b"[" * 100_000, "Invalid JSON: recursion limit exceeded"),
        (b"[]", "should be an object"),
        (b"{}", "conversation: is required; messages: is required"),
        (line(conversation={}), "conversation.ref: is required"),
        (line(conversation={"ref": ""}), "conversation.ref: should have at least 1 character"),
        (line(conversation={"ref": "x" * 501}), "conversation.ref: should have at most 500 characters"),
        (line(conversation={"ref": 5}), "conversation.ref: should be a valid string"),
        (line(conversation={"ref": "a", "language": 5}), "conversation.language: should be a valid string"),
        (line(contact=[]), "contact: should be an object"),
        (line(contact={"email": 5}), "contact.email: should be a valid string"),
        (line(messages={}), "messages: should be a valid array"),
        (line({"content": None}), "messages[0].content: should be a valid string"),
        (line({"sender": "bot"}), "messages[0].sender: should be 'contact' or 'user'"),
        (line({"senderType": "ai"}), "messages[0].senderType: should be 'CONTACT', 'HUMAN', 'AI' or 'SYSTEM'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "line",
)
def test_a_faulty_line_is_refused_with_the_field_and_the_fault(content: bytes, reason: str) -> None:
    assert refusal(content).startswith(reason)


def test_a_refusal_shows_three_faults_and_counts_the_rest() -> None:
    reason = refusal(line({"content": 1, "sender": "bot", "timestamp": "now"}, contact=1, agent="Ana"))
    assert reason.startswith("contact: should be an object; agent: should be an object; messages[0].content: ")
    assert reason.endswith("; and 2 more")


def test_the_first_faulty_message_ends_the_search() -> None:
    assert refusal(line(messages=[1] * 100_000)) == "messages[0]: should be an object"


def test_a_refusal_shows_no_value() -> None:
    secret = "my-secret"
    for content in (
        line({"sender": secret, "senderType": secret, "timestamp": secret}),
        line(messages=secret),
        line({"content": secret})[:-9],
    ):
        assert secret not in refusal(content)


def test_a_line_over_the_limit_is_refused() -> None:
    assert refusal(b" " * (MAX_LINE_BYTES + 1)) == "the line is longer than 64 MiB"


def test_the_contact_is_identified_by_email_then_phone_number_then_conversation() -> None:
    person = {"email": " A@Example.com ", "phoneNumber": "+12065550114"}
    assert parse(line(contact=person)).contact_key == ("email", "a@example.com")
    assert parse(line(contact=person | {"email": " "})).contact_key == ("phoneNumber", "+12065550114")
    assert parse(line(contact={"email": "", "phoneNumber": ""})).contact_key == ("ref", "a-1")
    assert parse(line()).contact_key == ("ref", "a-1")


def test_the_content_hash_depends_on_contact_and_messages_only() -> None:
    first = parse(line()).content_hash()
    assert parse(line(agent={"firstName": "Ana"}, contact={"firstName": "Priya"})).content_hash() == first
    assert parse(line(contact={"email": "a@example.com"})).content_hash() != first
    for other in ({"content": "Hello "}, {"sender": "user"}, {"senderType": "AI"}, {"speaker": "A"}):
        assert parse(line(other)).content_hash() != first
    assert parse(line({"timestamp": "2026-05-13T13:14:57.200Z"})).content_hash() != first
    assert parse(line(messages=[MESSAGE, MESSAGE])).content_hash() != first
