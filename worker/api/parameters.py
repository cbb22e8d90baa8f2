"""The schemas of bodies, headers and parameters, for the OpenAPI document.

They accept exactly what `create`, `editor` and `queries` accept.
"""

from typing import Any

from worker.api.queries import CURSOR_PATTERN, MAX_LIMIT, MAX_PAGE
from worker.api.schemas import ID
from worker.backfills.spec import MAX_CHANNELS, MAX_COUNT
from worker.domain.snapshot_filter import MAX_Q
from worker.domain.validation import DERIVED_PREFIXES, LINE, LINES, MAX_REQUEST_ID, NOT_BLANK
from worker.exports.spec import MAX_SYSTEM
from worker.formats.registry import FORMATS
from worker.redaction.kinds import KINDS
from worker.settings import Settings

Schema = dict[str, Any]

_HEX_ID: Schema = {"type": "string", "pattern": "^[0-9a-fA-F]{24}$"}
_TIME: Schema = {
    "anyOf": [
        {"type": "string", "format": "date-time"},
        {"type": "string", "format": "date"},
        {"type": "string", "maxLength": 0},
    ]
}

CREATE_EXAMPLE = {
    "contactId": ID,
    "notes": "Excellent handling of a billing question",
    "tags": ["billing", "resolved"],
    "quality": "excellent",
    "category": "customer_support",
}
EDIT_EXAMPLE = {"notes": "Reviewed", "tags": ["billing", "reviewed"], "quality": "good", "isArchived": False}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _or_empty(schema: Schema) -> Schema:
    """Allow an empty value, which counts as an omitted parameter."""
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
    """Return the request-body schema of POST."""
    ids = {"type": "array", "items": _HEX_ID, "minItems": 1, "maxItems": limits.max_message_ids, "uniqueItems": True}
    properties = {
        "contactId": _HEX_ID,
        "conversationId": _or_null({**_HEX_ID, "description": "only the messages of this conversation"}),
        "messageIds": _or_null({**ids, "description": "exactly these messages; if omitted, all of the contact's"}),
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
    """Return the request-body schema of PATCH."""
    schema = {
        "type": "object",
        "title": "SnapshotEdit",
        "properties": {**_editable(limits), "isArchived": {"type": "boolean"}},
        "minProperties": 1,
        "additionalProperties": False,
    }
    return _body(schema, EDIT_EXAMPLE)


def backfill_body(limits: Settings) -> Schema:
    """Return the request-body schema for creating a backfill."""
    time = {**_or_null({"anyOf": _TIME["anyOf"][:2]}), "description": "on a conversation's first message"}
    channel = {"type": "string", "minLength": 1, "maxLength": 100, "pattern": LINE}
    count = _or_null({"type": "integer", "minimum": 1, "maximum": MAX_COUNT})
    properties = {
        "from": time,
        "to": time,
        "channels": _or_null({"type": "array", "items": channel, "maxItems": MAX_CHANNELS}),
        "minMessages": count,
        "limit": count,
        **_editable(limits),
    }
    schema = {"type": "object", "title": "Backfill", "properties": properties, "additionalProperties": False}
    return _body(schema, {"channels": ["whatsapp"], "minMessages": 4, "tags": ["backfill"]})


def _parameter(where: str, name: str, schema: Schema, description: str, **more: Any) -> Schema:
    return {"in": where, "name": name, "schema": schema, "required": False, "description": description, **more}


PATH_ID = [_parameter("path", "id", _HEX_ID, "the id of the snapshot and of its request", required=True, example=ID)]
_KEY = {
    "type": "string",
    "minLength": 1,
    "maxLength": MAX_REQUEST_ID,
    "pattern": "^[!-~]([ -~]*[!-~])?$",
    "not": {"pattern": f"^({'|'.join(DERIVED_PREFIXES)})"},
}
# Swagger UI sends the `example` of an optional parameter unless it is removed by hand, so these have none.
_KEY_USE = "idempotency key: repeating it returns the same snapshot; generated if omitted"
_PREFER_USE = "`respond-async`: do not wait for the snapshot; `wait=3`: wait 3 seconds at most (RFC 7240)"
CREATE_HEADERS = [
    _parameter("header", "Idempotency-Key", _KEY, _KEY_USE),
    _parameter("header", "Prefer", {"type": "string"}, _PREFER_USE),
]


def _filters(limits: Settings) -> list[Schema]:
    label = _label(limits)
    return [
        _parameter("query", "quality", label, "only snapshots with exactly this quality, such as `excellent`"),
        _parameter("query", "category", label, "only snapshots with exactly this category, such as `customer_support`"),
    ]


def export_query(limits: Settings) -> list[Schema]:
    """Return the parameters of the export."""
    return _filters(limits)


def list_query(limits: Settings) -> list[Schema]:
    """Return the parameters of the list."""
    whole = {"type": "integer", "minimum": 1}
    after = {"type": "string", "pattern": CURSOR_PATTERN}
    return [
        _parameter("query", "page", {**whole, "maximum": MAX_PAGE, "default": 1}, "number of the page, from 1"),
        _parameter("query", "limit", {**whole, "maximum": MAX_LIMIT, "default": 20}, "snapshots on a page"),
        _parameter("query", "after", _or_empty(after), "the `next` of the previous page; takes precedence over `page`"),
        *snapshot_filter(limits),
    ]


def snapshot_filter(limits: Settings) -> list[Schema]:
    """Return the parameters that select snapshots, of the list and of the statistics."""
    q = {"type": "string", "maxLength": MAX_Q, "pattern": LINE}
    archived = {"type": "string", "enum": ["true", "false", "all", ""], "default": "false"}
    return [
        *_filters(limits),
        _parameter(
            "query", "tag", {**_label(limits), "maxLength": limits.max_tag_length}, "only snapshots with this tag"
        ),
        _parameter("query", "contactId", _or_empty(_HEX_ID), "only snapshots of this contact"),
        _parameter("query", "conversationId", _or_empty(_HEX_ID), "only snapshots of this conversation"),
        _parameter(
            "query",
            "from",
            _TIME,
            "only snapshots made at or after this time, such as `2026-05-01`; a date alone means 00:00 UTC",
        ),
        _parameter(
            "query",
            "to",
            _TIME,
            "only snapshots made at or before this time, such as `2026-05-31T23:59:59Z`; a date alone means 00:00 UTC",
        ),
        _parameter("query", "isArchived", archived, "`all`: archived snapshots too; `true`: only archived ones"),
        _parameter("query", "q", q, "only snapshots whose notes contain this text, regardless of case"),
    ]


ERASE_CONTACT = [
    _parameter("path", "id", _HEX_ID, "the id of the contact", required=True, example=ID),
    _parameter(
        "query",
        "redactMentions",
        {"type": "string", "enum": ["true", "false", ""], "default": "false"},
        "`true`: also replace the contact's e-mail address and phone number in other people's snapshots",
    ),
]

_EXPORT_EXAMPLE = {"format": "messages", "quality": "good", "split": "90/5/5", "dedupe": True}


def export_body(limits: Settings) -> Schema:
    """Return the request-body schema for creating an export.

    JSON Schema cannot express that the percentages of `split` add up to 100.
    """
    time = {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "string", "format": "date"}]}
    number = r"(0|[1-9]\d?|100)"
    properties = {
        "format": {"type": "string", "enum": list(FORMATS)},
        "quality": _or_null(_label(limits)),
        "category": _or_null(_label(limits)),
        "tag": _or_null({"type": "string", "minLength": 1, "maxLength": limits.max_tag_length, "pattern": NOT_BLANK}),
        "contactId": _or_null(_HEX_ID),
        "conversationId": _or_null(_HEX_ID),
        "from": _or_null(time),
        "to": _or_null(time),
        "isArchived": {"type": "string", "enum": ["true", "false", "all"]},
        "q": _or_null({"type": "string", "minLength": 1, "maxLength": MAX_Q, "pattern": LINE}),
        "split": _or_null(
            {
                "type": "string",
                "pattern": f"^{number}/{number}/{number}$",
                "description": "percentages for train, validation and test, by person; they add up to 100",
            }
        ),
        "stratify": _or_null({"type": "string", "enum": ["quality"]}),
        "dedupe": {"type": "boolean"},
        "system": _or_null({"type": "string", "minLength": 1, "maxLength": MAX_SYSTEM, "pattern": LINES}),
        "weightBad": {"type": "boolean"},
        "compress": _or_null({"type": "string", "enum": ["gzip", "zstd"]}),
        "redact": {"type": "array", "items": {"type": "string", "enum": list(KINDS)}},
        "redactRegions": {
            "type": "array",
            "items": {"type": "string", "pattern": "^[A-Z]{2}$"},
            "description": "regions of phone numbers and national ids, such as DE; needs redact",
        },
    }
    schema = {
        "type": "object",
        "title": "ExportRequest",
        "properties": properties,
        "required": ["format"],
        "additionalProperties": False,
    }
    return _body(schema, _EXPORT_EXAMPLE)


def export_list_query() -> list[Schema]:
    """Return the parameters of the list of exports."""
    limit = {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": 20}
    return [
        _parameter("query", "limit", limit, "exports on a page"),
        _parameter("query", "after", _or_empty(_HEX_ID), "the last id of the previous page"),
    ]


EXPORT_ID = [_parameter("path", "id", _HEX_ID, "the id of the export", required=True, example=ID)]
EXPORT_FILE = [
    _parameter(
        "path", "name", {"type": "string", "minLength": 1}, "one of `files`", required=True, example="train.jsonl"
    )
]
