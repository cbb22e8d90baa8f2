"""Writes docs/mongoose: a Mongoose schema and TypeScript types of snapshots and events, from the models of the code.

python scripts/mongoose_types.py
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from worker.api.editor import SnapshotEdit
from worker.api.schemas import Snapshot
from worker.client.models import CompletedEvent, FailedEvent
from worker.settings import Settings

FOLDER = Path(__file__).parents[1] / "docs" / "mongoose"
_COLLECTION = Settings.model_fields["snapshots_collection"].default
_HEAD = "// Made by scripts/mongoose_types.py from the models of training-snapshots, checked by tests."
_ID_PATTERN = "^[0-9a-f]{24}$"
_REFERENCES = {
    "userId": "User",
    "contactId": "Contact",
    "conversationId": "Conversation",
    "supersedes": "TrainingSnapshot",
}
_BY_MONGOOSE = {"_id", "__v", "createdAt", "updatedAt"}
_EDITABLE = {field.alias for field in SnapshotEdit.model_fields.values()}
_MAY_BE_EMPTY = {"content", "customerName"}
"""Texts that may be empty, which Mongoose's `required` refuses."""

Schema = Mapping[str, Any]


def files() -> dict[str, str]:
    """Return the texts by file name."""
    stored = Snapshot.model_json_schema(by_alias=True)
    return {"training-snapshot.mjs": _mongoose(stored), "types.ts": _types(stored)}


# --- Mongoose ---------------------------------------------------------------------------------------------


def _mongoose(stored: Schema) -> str:
    messages = "\n".join(_paths(stored["$defs"]["Message"], editable=set()))
    snapshots = "\n".join(_paths(stored, editable=_EDITABLE))
    return f"""{_HEAD}
// Only notes, tags, quality, category and isArchived may be edited; the rest is immutable once it is captured.
import mongoose from "mongoose";

const {{ Schema }} = mongoose;
const {{ ObjectId }} = Schema.Types;

export const messageSchema = new Schema(
  {{
{messages}
  }},
  {{ _id: false, id: false }},
);

export const trainingSnapshotSchema = new Schema(
  {{
{snapshots}
  }},
  {{ collection: "{_COLLECTION}", timestamps: true }},
);
"""


def _paths(model: Schema, editable: set[str | None]) -> Iterator[str]:
    for name, field in model["properties"].items():
        if name in _BY_MONGOOSE:
            continue
        schema, nullable = _not_null(field)
        options = [f"type: {_mongoose_type(schema)}"]
        if name in _REFERENCES:
            options.append(f'ref: "{_REFERENCES[name]}"')
        if name in model.get("required", ()) and not nullable and name not in _MAY_BE_EMPTY:
            options.append("required: true")
        if name not in editable:
            options.append("immutable: true")
        yield f"    {name}: {{ {', '.join(options)} }},"


def _mongoose_type(schema: Schema) -> str:
    if "$ref" in schema:
        return "messageSchema" if schema["$ref"].endswith("/Message") else "Object"
    if schema["type"] == "array":
        return f"[{_mongoose_type(schema['items'])}]"
    if special := _special(schema):
        return {"id": "ObjectId", "date": "Date"}[special]
    return {"string": "String", "integer": "Number", "boolean": "Boolean"}[schema["type"]]


# --- TypeScript -------------------------------------------------------------------------------------------


def _types(stored: Schema) -> str:
    snapshot = _interface("TrainingSnapshot", stored, {"id": "Types.ObjectId", "date": "Date"})
    message = _interface("TrainingMessage", stored["$defs"]["Message"], {"date": "Date"})
    mentions = _interface("ErasedMentions", stored["$defs"]["ErasedMentions"], {"date": "Date"})
    models = [each.model_json_schema(by_alias=True) for each in (CompletedEvent, FailedEvent)]
    parts = {name: schema for model in models for name, schema in model["$defs"].items()}
    events = [_interface(name, schema, {}) for name, schema in parts.items()]
    events += [_interface(model["title"], model, {}) for model in models]
    both = " | ".join(model["title"] for model in models)
    return "\n".join(
        [
            _HEAD,
            "// TrainingSnapshot is the stored document. Events are JSON: ids and times are text.",
            'import type { Types } from "mongoose";',
            "",
            message,
            mentions,
            snapshot,
            *events,
            "/** The field `event` of an entry of the event stream, parsed. */",
            f"export type SnapshotEvent = {both};",
            "",
        ]
    )


def _interface(name: str, model: Schema, special: Mapping[str, str]) -> str:
    text = re.sub(r"\s+", " ", model.get("description", ""))
    lines = [f"/** {text} */"] if text else []
    lines.append(f"export interface {name} {{")
    for field, schema in model["properties"].items():
        if described := schema.get("description"):
            lines.append(f"  /** {described} */")
        mark = "" if field in model.get("required", ()) or field == "__v" else "?"
        lines.append(f"  {field}{mark}: {_typescript(schema, special)};")
    return "\n".join([*lines, "}", ""])


def _typescript(schema: Schema, special: Mapping[str, str]) -> str:
    one, nullable = _not_null(schema)
    null = " | null" if nullable else ""
    if "$ref" in one:
        name = one["$ref"].rpartition("/")[2]
        return ("TrainingMessage" if name == "Message" else name) + null
    if "const" in one:
        return f'"{one["const"]}"{null}'
    if one.get("type") == "array":
        return f"{_typescript(one['items'], special)}[]{null}"
    if one.get("type") == "object":
        return f"Record<string, unknown>{null}"
    kind = _special(one)
    plain = {"string": "string", "integer": "number", "boolean": "boolean"}[one["type"]]
    return (special.get(kind, plain) if kind else plain) + null


# --- both -------------------------------------------------------------------------------------------------


def _not_null(schema: Schema) -> tuple[Schema, bool]:
    """Return the schema of an optional value without its null, and whether it had one."""
    options = schema.get("anyOf", [schema])
    (one,) = [each for each in options if each.get("type") != "null"]
    return one, len(options) > 1


def _special(schema: Schema) -> str | None:
    """Return `id` or `date` for text that stands for an ObjectId or a date."""
    if schema.get("pattern") == _ID_PATTERN:
        return "id"
    return "date" if schema.get("format") == "date-time" else None


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in files().items():
        (FOLDER / name).write_text(text)
