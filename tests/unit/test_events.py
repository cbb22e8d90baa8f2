"""Events are CloudEvents built from the ledger entry alone."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, cast
from uuid import UUID

import bson
import pytest
from bson import ObjectId
from bson.codec_options import CodecOptions
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from worker.domain.ledger_entry import LedgerEntry
from worker.errors import MessagesNotFound
from worker.stores.events import event_of, rejection

ID, ORGANIZATION, CONTACT = ObjectId(), ObjectId(), ObjectId()
FINISHED = datetime(2026, 5, 18, 14, 30, tzinfo=UTC)


def entry(**fields: Any) -> LedgerEntry:
    fields = {
        "_id": ID,
        "organizationId": ORGANIZATION,
        "contactId": CONTACT,
        "requestId": "mine",
        "notes": "Priya called",
        "tags": ["sales"],
        "trigger": "api",
        "round": 0,
        "finishedAt": FINISHED,
        "unsent": True,
        **fields,
    }
    return cast("LedgerEntry", fields)


COMPLETED = entry(status="completed", snapshotId=ID, messageCount=3, quality="good")
FAILED = entry(status="failed", round=2, error=MessagesNotFound(missing=[str(CONTACT)], missingCount=1).outcome())


@pytest.mark.parametrize("finished", [COMPLETED, FAILED], ids=["completed", "failed"])
def test_event_is_a_valid_cloud_event(finished: LedgerEntry) -> None:
    sent = json.dumps(event_of(finished))
    event = JSONFormat().read(CloudEvent, sent)
    assert event.get_id() == f"{ID}.{finished['round']}"
    assert event.get_source() == "/training/snapshots"
    assert event.get_type() == f"training.snapshot.{finished['status']}"
    assert event.get_subject() == str(ID)
    assert event.get_specversion() == "1.0"
    assert event.get_time() == FINISHED
    assert event.get_datacontenttype() == "application/json"


def test_completed_event_has_ids_and_labels() -> None:
    assert event_of(COMPLETED)["data"] == {
        "organizationId": str(ORGANIZATION),
        "requestId": "mine",
        "contactId": str(CONTACT),
        "conversationId": None,
        "trigger": "api",
        "messageCount": 3,
        "quality": "good",
        "category": None,
        "tags": ["sales"],
    }


def test_failed_event_has_the_error() -> None:
    assert event_of(FAILED)["data"]["error"] == {
        "code": "messages_not_found",
        "message": "Some of the messages do not exist or do not belong to this contact.",
        "details": {"missing": [str(CONTACT)], "missingCount": 1},
    }


@pytest.mark.parametrize("finished", [COMPLETED, FAILED], ids=["completed", "failed"])
def test_event_made_of_what_the_ledger_stored_is_the_same_byte_for_byte(finished: LedgerEntry) -> None:
    options: CodecOptions[LedgerEntry] = CodecOptions(tz_aware=True)
    stored = bson.decode(bson.encode(finished), options)
    assert json.dumps(event_of(stored)) == json.dumps(event_of(finished))


@pytest.mark.parametrize("finished", [COMPLETED, FAILED], ids=["completed", "failed"])
def test_event_has_no_notes(finished: LedgerEntry) -> None:
    assert "Priya" not in json.dumps(event_of(finished))


def test_rejection_keeps_what_celerys_json_brings() -> None:
    """kombu decodes dates, UUIDs, decimals and bytes."""
    odd = {"at": datetime(2026, 5, 18, tzinfo=UTC), "key": UUID(int=1), "sum": Decimal("1.5"), "raw": b"x"}
    kept = json.loads(rejection({"code": "invalid_request"}, {"args": [odd], "kwargs": {}}, "task:1")["entry"])
    assert kept["args"] == [{"at": "2026-05-18 00:00:00+00:00", "key": str(UUID(int=1)), "sum": "1.5", "raw": "b'x'"}]


@pytest.mark.parametrize(
    "original",
    [
        {b"type": b"snapshot.requested", b"data": b"x" * 5_000_000},
        {"args": [{"notes": "\u20ac" * 300_000}], "kwargs": {}},
        {f"{number:06d}".encode(): b"1" for number in range(100_000)},
        {b"data": b"\xff" * 1_000_000},
    ],
    ids=["long value", "Celery arguments", "many fields", "not UTF-8"],
)
def test_rejection_of_a_large_entry_is_truncated_to_1_mb(original: dict[Any, Any]) -> None:
    fields = rejection({"code": "invalid_request"}, original, "1-1")
    assert len(fields["entry"]) <= 1_000_000
    assert isinstance(json.loads(fields["entry"]), dict)
