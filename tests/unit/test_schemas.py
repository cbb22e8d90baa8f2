"""docs/schemas: up to date, valid, and consistent with what the code reads and writes."""

import json
from collections import Counter
from datetime import UTC, datetime
from typing import Any, cast

import jsonschema  # type: ignore[import-untyped]
import pytest
from bson import ObjectId

from scripts.json_schemas import FOLDER, schemas, text_of
from worker.backfills.progress import Progress
from worker.client.models import EVENT
from worker.domain.ledger_entry import LedgerEntry
from worker.errors import WorkerLost
from worker.intake.entries import read_entry
from worker.jobs.events import event_of as job_event_of
from worker.jobs.job import TASKS, Job, JobStatus, Kind
from worker.settings import Settings
from worker.stores.events import event_of

LIMITS = Settings.model_construct()
ID = "6a0000000000000000000001"
VALID: list[dict[str, Any]] = [
    {},
    {"conversationId": ID, "messageIds": [ID], "userId": ID, "notes": "a\nb 🙂", "tags": ["vip", "é"]},
    {"quality": "high", "category": "sales", "requestId": "order-17"},
    {"conversationId": None, "messageIds": None, "userId": None, "notes": None, "quality": None, "requestId": None},
    {"organizationId": ID.upper(), "notes": ""},
]
BROKEN: list[dict[str, Any]] = [
    {"organizationId": None},
    {"contactId": "6a"},
    {"contactId": 5},
    {"messageIds": []},
    {"messageIds": [ID, ID]},
    {"notes": 5},
    {"notes": "x" * 10_001},
    {"tags": "vip"},
    {"tags": None},
    {"tags": [" "]},
    {"tags": ["x" * 101]},
    {"tags": ["t"] * 51},
    {"quality": "x" * 101},
    {"requestId": ""},
    {"requestId": "r" * 201},
    {"requestId": " r"},
    {"requestId": "all:1"},
    {"unknown": 1},
    {"notes": "\x00"},
    {"quality": "a\nb"},
    {"tags": ["a\tb"]},
    {"requestId": "a\x07b"},
    {"requestId": "a\nb"},
]


def validator(name: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(
        json.loads((FOLDER / name).read_text()), format_checker=jsonschema.FormatChecker()
    )


def request(fields: dict[str, Any]) -> dict[str, Any]:
    return {"organizationId": ID, "contactId": ID} | fields


def is_read(kind: str, data: dict[str, Any]) -> bool:
    try:
        read_entry({b"type": kind.encode(), b"data": json.dumps(data).encode()}, "1-1", LIMITS)
    except Exception:  # noqa: BLE001 - any error means that it is not read
        return False
    return True


def entry_data_validator(kind: str) -> jsonschema.Draft202012Validator:
    schema = validator(f"{kind}.json").schema
    return jsonschema.Draft202012Validator(schema["properties"]["data"]["contentSchema"])


def test_the_files_are_current() -> None:
    expected = {name: text_of(schema) for name, schema in schemas().items()}
    assert {each.name: each.read_text() for each in FOLDER.iterdir()} == expected, "run python scripts/json_schemas.py"


@pytest.mark.parametrize("name", schemas())
def test_each_is_a_valid_schema(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(validator(name).schema)


@pytest.mark.parametrize("fields", VALID, ids=str)
def test_schema_and_code_accept_the_same_requests(fields: dict[str, Any]) -> None:
    entry_data_validator("snapshot.requested").validate(request(fields))
    validator("snapshots.request.json").validate(request(fields))
    assert is_read("snapshot.requested", request(fields))


@pytest.mark.parametrize("fields", BROKEN, ids=lambda fields: str(fields)[:40])
def test_schema_and_code_refuse_the_same_requests(fields: dict[str, Any]) -> None:
    assert not entry_data_validator("snapshot.requested").is_valid(request(fields))
    assert not is_read("snapshot.requested", request(fields))


def test_entries_have_a_type_data_and_possibly_other_fields() -> None:
    entry = validator("snapshot.requested.json")
    entry.validate({"type": "snapshot.requested", "data": "{}", "traceparent": "00-1"})
    assert not entry.is_valid({"type": "conversation.resolved", "data": "{}"})
    assert not entry.is_valid({"type": "snapshot.requested"})
    closing = {"organizationId": ID, "conversationId": ID}
    entry_data_validator("conversation.resolved").validate(closing)
    assert not entry_data_validator("conversation.resolved").is_valid(closing | {"contactId": ID})
    assert not is_read("conversation.resolved", closing | {"contactId": ID})


def ledger_entry(**fields: Any) -> LedgerEntry:
    fields = {
        "_id": ObjectId(),
        "organizationId": ObjectId(),
        "requestId": "r",
        "contactId": ObjectId(),
        "trigger": "stream",
        "round": 0,
        "finishedAt": datetime(2026, 5, 18, 14, 30, tzinfo=UTC),
        **fields,
    }
    return cast("LedgerEntry", fields)


COMPLETED = {"status": "completed", "snapshotId": ObjectId(), "messageCount": 3}
EVENTS = {
    "completed": ledger_entry(**COMPLETED),
    "with everything": ledger_entry(**COMPLETED, quality="high", category="c", tags=["t"], conversationId=ObjectId()),
    "unchanged": ledger_entry(**COMPLETED, unchanged=True, round=2),
    "failed": ledger_entry(
        status="failed", error={"code": "contact_not_found", "message": "m", "details": {"contactId": ID}}
    ),
}


@pytest.mark.parametrize("name", EVENTS)
def test_emitted_events_are_valid_and_the_client_reads_them(name: str) -> None:
    event = event_of(EVENTS[name])
    validator(f"{event['type']}.json").validate(event)
    read = EVENT.validate_json(json.dumps(event))
    assert read.id == event["id"]
    assert read.data.model_dump(by_alias=True, exclude_unset=True) == event["data"]


def test_a_completed_event_is_not_a_valid_failed_event() -> None:
    completed = event_of(EVENTS["completed"])
    assert not validator("training.snapshot.failed.json").is_valid(completed)


EXPORTED: dict[str, Any] = {"format": "jsonl", "moment": "2026-05-18T14:30:00.000Z", "counts": {}, "splits": {}}
RESULTS: dict[Kind, dict[str, Any]] = {
    "export": EXPORTED,
    "backfill": Progress(3, 2, failures=Counter(empty_conversation=1)).as_fields(),
    "erasure": {"receipt": {"subject": "0"}},
    "retention": {"removed": {"snapshots": 3}},
}


@pytest.mark.parametrize("kind", TASKS)
def test_events_of_every_kind_of_job_have_a_schema_and_are_valid(kind: Kind) -> None:
    at = datetime(2026, 5, 18, 14, 30, tzinfo=UTC)
    ends: dict[JobStatus, dict[str, Any]] = {
        "completed": {"result": RESULTS[kind]},
        "failed": {"error": WorkerLost().outcome()},
    }
    for status, fields in ends.items():
        event = job_event_of(Job(ObjectId(), kind, ObjectId(), {}, status, at, finished_at=at, **fields))
        schema = validator(f"{event['type']}.json")
        schema.validate(event)
        del event["data"]["error" if status == "failed" else next(iter(RESULTS[kind]))]
        assert not schema.is_valid(event)
