"""What stands in a queue becomes a payload that kombu can use, whatever it is."""

import json
import pickle
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from kombu.transport.virtual import Channel, Message

from support.malformed import envelope, kinds, raw
from worker.celery_support.message_format import CARRIER, check_message
from worker.celery_support.payloads import original, read_payload
from worker.errors import InvalidMessage
from worker.stores.events import MAX_REJECTION_BYTES, rejection
from worker.stores.wakeups import MAX_MESSAGE_BYTES

KINDS = kinds()


def usable(payload: dict[str, Any]) -> None:
    """kombu and the pool can handle the payload."""
    channel: Any = _Channel()
    message = Message(payload, channel=channel)
    assert isinstance(message.delivery_tag, str)
    assert isinstance(message.headers["task"], str)
    assert message.delivery_info == payload["properties"]["delivery_info"]
    json.dumps([payload, "", "snapshots"])
    pickle.dumps(message.headers)
    headers: Any = message.headers
    if headers["task"] == CARRIER:
        assert InvalidMessage(headers["errors"]).outcome()
        assert headers["bytes"] < 2**50


class _Channel:
    decode_body = Channel.decode_body
    codecs = Channel.codecs


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_message_becomes_a_usable_payload(name: str) -> None:
    usable(read_payload(KINDS[name], "snapshots"))


@examples(deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_become_a_carrier(text: bytes) -> None:
    payload = read_payload(text, "snapshots.bulk")
    usable(payload)
    assert payload["headers"]["task"] == CARRIER
    assert payload["properties"]["delivery_info"]["routing_key"] == "snapshots.bulk"


def test_valid_message_keeps_its_headers_and_gets_a_delivery_tag_of_its_own() -> None:
    sent = envelope(args=[{"a": 1}], headers={"traceparent": "00-a-b-01", "stamp": 5, "timelimit": [3600, 5]})
    payload = read_payload(raw(sent), "snapshots")
    assert payload["headers"] == sent["headers"] | {"timelimit": [None, 5]}
    assert payload["body"] == sent["body"]
    assert payload["properties"]["correlation_id"] == sent["properties"]["correlation_id"]
    assert payload["properties"]["delivery_tag"] != sent["properties"]["delivery_tag"]


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (raw(envelope(headers={"timelimit": [1]})), "headers.timelimit"),
        (raw(envelope(headers={"id": None})), "headers.id"),
        (raw(envelope(headers={"update": 5})), "headers.update"),
        (raw(envelope(CARRIER)), "headers.task"),
        (raw(envelope(headers={"expires": "2020-01-01T00:00:00"})), "headers.expires"),
        (raw(envelope(headers={"compression": "zlib"})), "headers.compression"),
        (raw(envelope(properties={"body_encoding": "utf-8"})), "properties.body_encoding"),
        (raw(envelope(content_type="application/x-python-serialize")), "content-type"),
        (KINDS["body: object"], "body"),
        (KINDS["body: chord"], "body.2.chord"),
        (KINDS["body: tags nested 500"], "body"),
        (KINDS["message: properties null"], "properties"),
        (KINDS["message: nested 100,000"], "message"),
        (b" " * (MAX_MESSAGE_BYTES + 1), "message"),
    ],
)
def test_error_names_the_field(message: bytes, field: str) -> None:
    with pytest.raises(InvalidMessage) as error:
        check_message(message)
    assert [each["field"] for each in error.value.errors] == [field]


@pytest.mark.parametrize(
    ("ahead", "valid"), [(timedelta(minutes=-60), True), (timedelta(minutes=14), True), (timedelta(minutes=16), False)]
)
def test_eta_is_at_most_a_quarter_of_an_hour_ahead(ahead: timedelta, valid: bool) -> None:
    eta = (datetime.now(UTC) + ahead).isoformat()
    payload = read_payload(raw(envelope(headers={"eta": eta})), "snapshots")
    assert (payload["headers"]["task"] != CARRIER) is valid


def test_carrier_that_was_put_back_stays_the_same() -> None:
    first = read_payload(b"hello", "snapshots")
    again = read_payload(json.dumps(first).encode(), "snapshots")
    assert (again["headers"], again["body"]) == (first["headers"], first["body"])
    forged = first | {"headers": first["headers"] | {"errors": [{"field": {}, "message": "x"}]}}
    assert read_payload(json.dumps(forged).encode(), "snapshots")["headers"]["errors"] != forged["headers"]["errors"]


@pytest.mark.parametrize("text", [b"a" * 3_000_000, b"\xff" * 3_000_000, "é\n".encode() * 1_000_000, b"[" * 9])
def test_at_most_a_megabyte_is_recorded(text: bytes) -> None:
    entry = rejection({}, original(text, "snapshots", len(text)), "task:x")["entry"]
    assert len(entry) <= MAX_REJECTION_BYTES
    assert json.loads(entry)["bytes"] in (len(text), str(len(text)))
    assert len(json.loads(entry)["message"]) > 0.1 * min(MAX_REJECTION_BYTES, len(text))


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize("part", ["headers", "properties"])
@examples(deadline=None)
@given(st.data())
def test_any_value_of_any_field_becomes_a_usable_payload(part: str, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from([*envelope()[part], "update", "compression", "headers"]))
    changes: dict[str, Any] = {part: {name: data.draw(ODD)}}
    message = envelope(**changes)
    payload = read_payload(raw(message), "snapshots")
    usable(payload)
    errors = payload["headers"].get("errors", [])
    assert not any("could not be checked" in error["message"] for error in errors)
