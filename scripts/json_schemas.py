"""Generates the JSON Schemas of requests, closings and events: `python scripts/json_schemas.py`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from worker.backfills.event_models import BackfillCompletedEvent, BackfillFailedEvent
from worker.client.models import CompletedEvent, FailedEvent
from worker.domain.requests import ConversationResolved, SnapshotRequest
from worker.domain.validation import CONTROL, DERIVED_PREFIXES, LINE, LINES, MAX_REQUEST_ID, NOT_BLANK
from worker.erasure.event_models import ContactErasedEvent, ErasureFailedEvent
from worker.exports.event_models import ExportCompletedEvent, ExportFailedEvent
from worker.intake.entries import REQUESTED, RESOLVED
from worker.settings import Settings
from worker.sweep.event_models import RetentionCompletedEvent, RetentionFailedEvent

FOLDER = Path(__file__).parents[1] / "docs" / "schemas"
_DIALECT = GenerateJsonSchema.schema_dialect
_EVENT = "The field `event` of an event entry"
_LIMITS = Settings.model_construct()


def schemas() -> dict[str, dict[str, Any]]:
    """Return the schemas by file name."""
    return {
        f"{REQUESTED}.json": _entry(REQUESTED, _request()),
        f"{RESOLVED}.json": _entry(RESOLVED, _model(ConversationResolved)),
        "snapshots.request.json": _titled(_request(), "The only argument of the Celery task snapshots.request"),
        "training.snapshot.completed.json": _titled(_model(CompletedEvent), _EVENT),
        "training.snapshot.failed.json": _titled(_model(FailedEvent), _EVENT),
        **{
            f"training.{name}.json": _titled(_model(model), f"The field `event` of the event of {of}")
            for name, model, of in (
                ("export.completed", ExportCompletedEvent, "a completed export"),
                ("export.failed", ExportFailedEvent, "a failed export"),
                ("backfill.completed", BackfillCompletedEvent, "a completed backfill"),
                ("backfill.failed", BackfillFailedEvent, "a failed backfill"),
                ("contact.erased", ContactErasedEvent, "an erased contact"),
                ("erasure.failed", ErasureFailedEvent, "a failed erasure"),
                ("retention.completed", RetentionCompletedEvent, "a removal by age"),
                ("retention.failed", RetentionFailedEvent, "a failed removal by age"),
            )
        },
    }


def _model(model: type[BaseModel]) -> dict[str, Any]:
    schema: dict[str, Any] = _without_titles(model.model_json_schema(by_alias=True))
    return schema


def _without_titles(schema: Any) -> Any:
    """Remove the titles that Pydantic gives to fields, since they only repeat the names."""
    if isinstance(schema, list):
        return [_without_titles(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: _without_titles(value) for name, value in schema.items() if name != "title" or not isinstance(value, str)
    }


def _request() -> dict[str, Any]:
    """Return the schema of a request, with the default limits; the settings can change them."""
    schema = _model(SnapshotRequest)
    fields = schema["properties"]
    derived = "|".join(DERIVED_PREFIXES)
    _of_type(fields["requestId"], "string").update(
        minLength=1, maxLength=MAX_REQUEST_ID, pattern=rf"^(?!{derived})(?!.*[{CONTROL}])\S(.*\S)?$"
    )
    _of_type(fields["notes"], "string").update(maxLength=_LIMITS.max_notes_length, pattern=LINES)
    for name in ("quality", "category"):
        _of_type(fields[name], "string").update(maxLength=_LIMITS.max_label_length, pattern=LINE)
    fields["tags"].update(maxItems=_LIMITS.max_tags)
    fields["tags"]["items"].update(maxLength=_LIMITS.max_tag_length, pattern=NOT_BLANK)
    _of_type(fields["messageIds"], "array").update(minItems=1, maxItems=_LIMITS.max_message_ids, uniqueItems=True)
    return schema


def _of_type(field: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Return the branch of this type in the schema of an optional field."""
    branch: dict[str, Any]
    (branch,) = [option for option in field["anyOf"] if option.get("type") == kind]
    return branch


def _entry(kind: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of a stream entry: string fields, of which `data` contains JSON."""
    return _titled(
        {
            "type": "object",
            "required": ["type", "data"],
            "properties": {
                "type": {"const": kind},
                "data": {
                    "description": "JSON in UTF-8.",
                    "type": "string",
                    "contentMediaType": "application/json",
                    "contentSchema": data,
                },
            },
            "additionalProperties": {"type": "string", "description": "Other fields are ignored."},
        },
        "An entry of the Redis stream snapshots:requests",
    )


def _titled(schema: Mapping[str, Any], title: str) -> dict[str, Any]:
    return {"$schema": _DIALECT, **schema, "title": title}


def text_of(schema: Mapping[str, Any]) -> str:
    """Return the text of a schema file."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def write() -> None:
    """Write the schema files."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, schema in schemas().items():
        (FOLDER / name).write_text(text_of(schema))


if __name__ == "__main__":
    write()
