"""What may be asked for: the request that a caller sends, checked.

Limits come from the settings through Pydantic's validation context, so that one class serves all ways in.
"""

import hashlib
import json
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from bson import ObjectId
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    PlainSerializer,
    PlainValidator,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic.alias_generators import to_camel

from worker.errors import InvalidRequest
from worker.settings import Settings

Trigger = Literal["api", "client", "stream", "task", "conversation.resolved", "backfill"]

ACCEPTED, COMPLETED, FAILED = "accepted", "completed", "failed"
"""The states of a request."""

DERIVED_PREFIXES = ("stream:", "task:", "resolved:", "all:")
"""Beginnings of the request ids that are derived, so that reading one entry twice is one request."""

MAX_REQUEST_ID = 200
_FAULTS_NAMED = 20
"""Faults that one error names at most: 10,001 wrong tags are one mistake."""
_NAME_SHOWN = 100
_LINE_BREAKS = "\n\r\t"


def read_object_id(value: Any) -> ObjectId:
    """An ObjectId from itself or from 24 hex digits."""
    if isinstance(value, ObjectId):
        return value
    if isinstance(value, str) and len(value) == 24 and ObjectId.is_valid(value):
        return ObjectId(value)
    raise ValueError("should be an ObjectId of 24 hex digits")


def _check_text(value: str, allowed: str = "") -> str:
    if value.isascii() and value.isprintable():
        return value
    for character in value:
        kind = unicodedata.category(character)
        if kind == "Cs":
            raise ValueError("should be valid Unicode, it has a lone surrogate")
        if kind == "Cc" and character not in allowed:
            raise ValueError(f"should have no control characters, it has U+{ord(character):04X}")
    return value


def _limit(info: ValidationInfo, name: str) -> int:
    limits = info.context if isinstance(info.context, Settings) else _DEFAULT_LIMITS
    return int(getattr(limits, name))


_DEFAULT_LIMITS = Settings.model_construct()


def _check_notes(value: str, info: ValidationInfo) -> str:
    if len(value) > (most := _limit(info, "max_notes_length")):
        raise ValueError(f"should have at most {most} characters, it has {len(value)}")
    return _check_text(value, allowed=_LINE_BREAKS)


def _check_label(value: str, info: ValidationInfo) -> str:
    if len(value) > (most := _limit(info, "max_label_length")):
        raise ValueError(f"should have at most {most} characters, it has {len(value)}")
    return _check_text(value)


def _check_tags(value: list[str], info: ValidationInfo) -> list[str]:
    if len(value) > (most := _limit(info, "max_tags")):
        raise ValueError(f"should be at most {most} tags, there are {len(value)}")
    longest = _limit(info, "max_tag_length")
    for number, tag in enumerate(value):
        if not tag.strip():
            raise ValueError(f"tag {number} should not be blank")
        if len(tag) > longest:
            raise ValueError(f"tag {number} should have at most {longest} characters, it has {len(tag)}")
        _check_text(tag)
    return value


def _check_message_ids(value: list[ObjectId], info: ValidationInfo) -> list[ObjectId]:
    if not value:
        raise ValueError("should name at least one message, or be left out for all of them")
    if len(value) > (most := _limit(info, "max_message_ids")):
        raise ValueError(f"should be at most {most} ids, there are {len(value)}")
    seen: set[ObjectId] = set()
    for each in value:
        if each in seen:
            raise ValueError(f"should name each message once, {each} is repeated")
        seen.add(each)
    return value


def check_request_id(value: str, most: int = MAX_REQUEST_ID) -> str:
    """A caller's own request id: 1 to 200 characters, none of the prefixes of derived ones."""
    if not 1 <= len(value) <= most:
        raise ValueError(f"should have 1 to {most} characters, it has {len(value)}")
    if value.startswith(DERIVED_PREFIXES):
        raise ValueError(f"should not begin with {', '.join(DERIVED_PREFIXES)}: those are derived")
    if value != value.strip():
        raise ValueError("should not begin or end with white space")
    return _check_text(value)


def _check_own_request_id(value: str) -> str:
    return check_request_id(value)


Id = Annotated[
    ObjectId,
    PlainValidator(read_object_id),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "pattern": "^[0-9a-fA-F]{24}$"}),
]
RequestId = Annotated[str, AfterValidator(_check_own_request_id)]
Notes = Annotated[str, AfterValidator(_check_notes)]
Label = Annotated[str, AfterValidator(_check_label)]
Tags = Annotated[list[str], AfterValidator(_check_tags)]
MessageIds = Annotated[list[Id], AfterValidator(_check_message_ids)]


class CamelModel(BaseModel):
    """Fields are camelCase outside, strict, and no others are allowed."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        strict=True,
        frozen=True,
        arbitrary_types_allowed=True,
        hide_input_in_errors=True,
    )

    @classmethod
    def read(cls, data: Any, limits: Settings | None = None) -> Self:
        """The model of a JSON object.

        Raises InvalidRequest that lists each faulty field, what is wrong and what is allowed, never its text.
        """
        if not isinstance(data, Mapping):
            raise InvalidRequest([{"field": "body", "message": f"should be a JSON object, it is {json_type(data)}"}])
        try:
            return cls.model_validate(dict(data), context=limits, by_alias=True, by_name=False)
        except ValidationError as error:
            allowed = [field.alias or name for name, field in cls.model_fields.items()]
            raise InvalidRequest(faults(error, allowed)) from None


class SnapshotRequest(CamelModel):
    """One request for a snapshot, as a caller sends it.

    `messageIds` given: exactly those messages; else `conversationId` given: that conversation's; else all
    of the contact's.
    """

    organization_id: Id
    contact_id: Id
    conversation_id: Id | None = None
    message_ids: MessageIds | None = None
    user_id: Id | None = None
    notes: Notes | None = None
    tags: Tags = []
    quality: Label | None = None
    category: Label | None = None
    request_id: RequestId | None = None

    def body(self) -> dict[str, Any]:
        """The caller's fields as the ledger keeps them: camelCase, ObjectIds, no request id, nothing absent."""
        body = {_ALIASES[name]: value for name, value in self if value is not None}
        body.pop("requestId", None)
        return body


class ConversationResolved(CamelModel):
    """A conversation was closed: the data of a `conversation.resolved` entry."""

    organization_id: Id
    conversation_id: Id


_ALIASES = {name: to_camel(name) for name in SnapshotRequest.model_fields}


def body_hash(body: Mapping[str, Any]) -> str:
    """SHA-256, hex, over the body as canonical JSON: the same fields give the same hash, whatever their order."""
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()


def json_type(value: Any) -> str:
    """What JSON calls the type of a value."""
    names = {type(None): "null", bool: "a boolean", str: "a string", list: "an array", tuple: "an array"}
    return names.get(type(value)) or ("a number" if isinstance(value, int | float) else "an object")


def faults(error: ValidationError, allowed: Sequence[str]) -> list[dict[str, str]]:
    """`[{field, message}]` of Pydantic's error, without the input. `allowed`: the fields that there are."""
    return [
        {"field": _named(each["loc"]), "message": _said(each["type"], each["msg"], allowed)}
        for each in error.errors(include_input=False, include_url=False)[:_FAULTS_NAMED]
    ]


def _named(location: Sequence[Any]) -> str:
    """A field's path. An unknown field's name is the caller's text, so it is escaped and cut."""
    path = ".".join(str(part) for part in location).encode("unicode_escape").decode()
    return path[:_NAME_SHOWN] or "body"


def _said(kind: str, message: str, allowed: Sequence[str]) -> str:
    if kind == "missing":
        return "is required"
    if kind == "extra_forbidden":
        return f"is not a field of this; allowed are {', '.join(allowed)}"
    if kind == "string_unicode":
        return "should be valid Unicode, it has a lone surrogate"
    return message.removeprefix("Value error, ").replace("Input should", "should").replace("a valid list", "an array")
