"""What the operations take, for the OpenAPI document: exactly what `models`, `listing` and `editing` accept."""

from typing import Any

from worker.api.queries import CURSOR_PATTERN, MAX_LIMIT, MAX_PAGE, MAX_Q
from worker.api.schemas import ID
from worker.domain.validation import DERIVED_PREFIXES, LINE, LINES, MAX_REQUEST_ID, NOT_BLANK
from worker.settings import Settings

Schema = dict[str, Any]

HEX_ID: Schema = {"type": "string", "pattern": "^[0-9a-fA-F]{24}$"}
_WHEN: Schema = {
    "anyOf": [
        {"type": "string", "format": "date-time"},
        {"type": "string", "format": "date"},
        {"type": "string", "maxLength": 0},
    ]
}

CREATE_EXAMPLE = {
    "contactId": ID,
    "messageIds": ["6a1b2c3d4e5f60718293a4c1", "6a1b2c3d4e5f60718293a4c2"],
    "notes": "Excellent handling of a billing question",
    "tags": ["billing", "resolved"],
    "quality": "excellent",
    "category": "customer_support",
}
EDIT_EXAMPLE = {"notes": "Reviewed", "tags": ["billing", "reviewed"], "quality": "good", "isArchived": False}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _or_empty(schema: Schema) -> Schema:
    """An empty parameter is as one that is not given."""
    return {"anyOf": [schema, {"type": "string", "maxLength": 0}]}


def _label(limits: Settings) -> Schema:
    return {"type": "string", "maxLength": limits.max_label_length, "pattern": LINE}


def _editable(limits: Settings) -> dict[str, Schema]:
    tag = {"type": "string", "minLength": 1, "maxLength": limits.max_tag_length, "pattern": NOT_BLANK}
    return {
        "notes": _or_null({"type": "string", "maxLength": limits.max_notes_length, "pattern": LINES}),
        "tags": {"type": "array", "items": tag, "maxItems": limits.max_tags},
        "quality": _or_null(_label(limits)),
        "category": _or_null(_label(limits)),
    }


def _body(schema: Schema, example: Any) -> Schema:
    return {"required": True, "content": {"application/json": {"schema": schema, "example": example}}}


def create_body(limits: Settings) -> Schema:
    """Of POST."""
    ids = {"type": "array", "items": HEX_ID, "minItems": 1, "maxItems": limits.max_message_ids, "uniqueItems": True}
    properties = {
        "contactId": HEX_ID,
        "conversationId": _or_null({**HEX_ID, "description": "only this conversation's messages"}),
        "messageIds": _or_null({**ids, "description": "exactly these messages; without them, all of the contact's"}),
        **_editable(limits),
    }
    schema = {
        "type": "object",
        "title": "SnapshotRequest",
        "properties": properties,
        "required": ["contactId"],
        "additionalProperties": False,
    }
    return _body(schema, CREATE_EXAMPLE)


def edit_body(limits: Settings) -> Schema:
    """Of PATCH."""
    schema = {
        "type": "object",
        "title": "SnapshotEdit",
        "properties": {**_editable(limits), "isArchived": {"type": "boolean"}},
        "minProperties": 1,
        "additionalProperties": False,
    }
    return _body(schema, EDIT_EXAMPLE)


def _parameter(where: str, name: str, schema: Schema, description: str, **more: Any) -> Schema:
    return {"in": where, "name": name, "schema": schema, "required": False, "description": description, **more}


def path_id() -> list[Schema]:
    """The snapshot's id, which is its request's too."""
    return [_parameter("path", "id", HEX_ID, "the snapshot", required=True, example=ID)]


def create_headers() -> list[Schema]:
    """Of POST."""
    key = {
        "type": "string",
        "minLength": 1,
        "maxLength": MAX_REQUEST_ID,
        "pattern": "^[!-~]([ -~]*[!-~])?$",
        "not": {"pattern": f"^({'|'.join(DERIVED_PREFIXES)})"},
    }
    wait = "`respond-async`: do not wait for the snapshot; `wait=3`: so many seconds at most (RFC 7240)"
    return [
        _parameter("header", "Idempotency-Key", key, "repeated, it is the same request", example="order-4711"),
        _parameter("header", "Prefer", {"type": "string"}, wait, example="respond-async"),
    ]


def _filters(limits: Settings) -> list[Schema]:
    label = _label(limits)
    return [
        _parameter("query", "quality", label, "exactly this", example="excellent"),
        _parameter("query", "category", label, "exactly this", example="customer_support"),
    ]


def export_query(limits: Settings) -> list[Schema]:
    """Of the export."""
    return _filters(limits)


def list_query(limits: Settings) -> list[Schema]:
    """Of the list."""
    whole = {"type": "integer", "minimum": 1}
    q = {"type": "string", "maxLength": MAX_Q, "pattern": LINE}
    archived = {"type": "string", "enum": ["true", "false", "all", ""], "default": "false"}
    after = {"type": "string", "pattern": CURSOR_PATTERN}
    return [
        _parameter("query", "page", {**whole, "maximum": MAX_PAGE, "default": 1}, "counted from 1"),
        _parameter("query", "limit", {**whole, "maximum": MAX_LIMIT, "default": 20}, "snapshots of a page"),
        _parameter("query", "after", _or_empty(after), "the `next` of the page before; goes before `page`"),
        *_filters(limits),
        _parameter("query", "tag", {**_label(limits), "maxLength": limits.max_tag_length}, "has this tag"),
        _parameter("query", "contactId", _or_empty(HEX_ID), "of this contact"),
        _parameter("query", "conversationId", _or_empty(HEX_ID), "requested for this conversation"),
        _parameter("query", "from", _WHEN, "then or later; a day is its start in UTC", example="2026-05-01"),
        _parameter(
            "query",
            "to",
            _WHEN,
            "made then or before; a day is its first moment in UTC",
            example="2026-05-31T23:59:59Z",
        ),
        _parameter("query", "isArchived", archived, "the archived too (`all`), or only (`true`)"),
        _parameter("query", "q", q, "text in the notes, in any case"),
    ]
