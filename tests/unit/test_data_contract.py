"""docs/data.md names the fields and indexes that the code has, and every place that lists them has the same."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import bson
import pytest
from bson import ObjectId

from worker.api.editor import _CAPTURED, SnapshotEdit
from worker.api.parameters import create_body, edit_body
from worker.api.schemas import Message, Shape, Snapshot
from worker.cli.requesting import _FIELDS
from worker.client.models import Request, RequestFields
from worker.domain.assembly import Conversation, assemble, encode_messages
from worker.domain.ledger_entry import PERSONAL, LedgerEntry
from worker.domain.requests import SnapshotRequest
from worker.domain.source_fields import CONTACT, CONVERSATION, MESSAGE, OMITTED, USER
from worker.domain.validation import CamelModel
from worker.exports.selection import EDITABLE
from worker.formats import snapshot_fields
from worker.inspection.expected import EXPECTED
from worker.redaction.snapshot import _TEXTS
from worker.runs.redacting import _OF_REQUEST
from worker.settings import load
from worker.settings.field_mapping import FieldSettings, Group, variable
from worker.stores.indexes import own_indexes, source_indexes

TEXT = (Path(__file__).parents[2] / "docs" / "data.md").read_text()
SOURCES: dict[str, dict[str, Any]] = {
    "Contacts": CONTACT,
    "Conversations": CONVERSATION,
    "Messages": MESSAGE,
    "Users": USER,
}


def rows(heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without its head."""
    lines = TEXT.partition(f"## {heading}\n")[2].splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("|---"))
    table = []
    for line in lines[start + 1 :]:
        if not line.startswith("|"):
            break
        table.append([cell.strip().strip("`") for cell in line.strip("|").split("|")])
    return table


@pytest.mark.parametrize("heading", SOURCES)
def test_fields_that_are_read_and_their_settings(heading: str) -> None:
    documented = {field: setting or None for field, setting, *_ in rows(heading) if field != "_id"}
    assert documented == {name: setting and variable(setting) for name, setting in SOURCES[heading].items()}


@pytest.mark.parametrize(
    ("heading", "group"),
    [("Contacts", "contact"), ("Conversations", "conversation"), ("Messages", "message"), ("Users", "user")],
)
def test_types_are_those_that_the_inspection_accepts(heading: str, group: Group) -> None:
    documented = {field: (kind, required == "yes") for field, _, kind, required, _ in rows(heading) if field != "_id"}
    assert documented == {name: (", ".join(each.kinds), each.required) for name, each in EXPECTED[group].items()}


def test_every_setting_that_names_a_field_is_used() -> None:
    used = {setting for fields in SOURCES.values() for setting in fields.values() if setting}
    others = {name for name in FieldSettings.model_fields if name.endswith("_field")} - used
    assert others == {"message_deleted_field", "message_internal_field"}


def test_fields_of_a_snapshot() -> None:
    entry: LedgerEntry = {
        "_id": ObjectId(),
        "organizationId": ObjectId(),
        "contactId": ObjectId(),
        "requestId": "r",
        "bodyHash": "h",
        "status": "accepted",
        "round": 0,
        "trigger": "api",
        "redaction": {"policy": 1, "counts": {}},
    }
    now = datetime(2026, 5, 18, tzinfo=UTC)
    messages = encode_messages([{"_id": ObjectId(), "timestamp": now, OMITTED: False}], count_omitted=True)
    document = bson.decode(assemble(entry, Conversation({}, messages), now).document.raw)
    nested = [f"messages.{name}" for name in document["messages"][0]]
    documented = {field: kind for field, kind, _ in rows("Snapshots")}
    assert list(documented) == [*document, *nested]
    null = {field for field, kind in documented.items() if kind.endswith(", null")}
    assert null == {name for name, value in document.items() if value is None}


def names(model: type[CamelModel] | type[Shape]) -> set[str]:
    return {str(field.alias or name) for name, field in model.model_fields.items()}


def test_each_place_has_all_fields_of_a_snapshot() -> None:
    documented = {field for field, *_ in rows("Snapshots")}
    fields = {field for field in documented if "." not in field} | {"erasedMentions"}
    nested = {field.removeprefix("messages.") for field in documented if "." in field}
    editable = names(SnapshotEdit)
    assert names(Snapshot) == fields
    assert snapshot_fields.SNAPSHOT.keys() | {"messages"} == fields
    assert _CAPTURED - {"id", "messageIds"} == fields - editable
    assert set(EDITABLE) == editable | {"updatedAt", "__v"}
    assert edit_body(load())["content"]["application/json"]["schema"]["properties"].keys() == editable
    assert names(Message) == snapshot_fields.MESSAGE.keys() == nested


def test_each_place_has_all_fields_of_a_request() -> None:
    fields = names(SnapshotRequest)
    sent = fields - {"organizationId", "requestId"}
    assert names(Request) == fields
    optional = SnapshotRequest.model_fields.keys() - {"organization_id", "contact_id"}
    assert set(RequestFields.__annotations__) == optional
    assert create_body(load())["content"]["application/json"]["schema"]["properties"].keys() == sent - {"userId"}
    assert set(_FIELDS.values()) == sent | {"requestId"}
    assert sent <= set(LedgerEntry.__annotations__)
    assert sent <= set(PERSONAL)
    assert set(_OF_REQUEST) == {name for name, _ in _TEXTS} & sent


def test_fields_of_the_ledger() -> None:
    documented = {field: required == "yes" for field, _, required, _ in rows("Ledger")}
    assert documented == {
        **dict.fromkeys(LedgerEntry.__annotations__, False),
        **dict.fromkeys(LedgerEntry.__required_keys__, True),
    }


def test_each_collection_is_described() -> None:
    fields = load().model_dump()
    names = {value for name, value in fields.items() if name.endswith("_collection")}
    described = {name for name, *_ in rows("Other collections")}
    elsewhere = {fields[f"{name}_collection"] for name in ("contacts", "users", "conversations", "messages")}
    assert described == names - elsewhere - {fields["snapshots_collection"], fields["requests_collection"]}


def test_indexes() -> None:
    documented = [(collection, index) for collection, index, _ in rows("Indexes")]
    settings = load()
    assert documented == [
        (index.collection, index.name) for index in [*own_indexes(settings), *source_indexes(settings)]
    ]
