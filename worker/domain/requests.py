"""The requests that callers send, validated.

The limits come from the settings through Pydantic's validation context, so that every entry point uses these models.
"""

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Any, Literal

from bson import ObjectId
from bson.errors import InvalidId
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic.alias_generators import to_camel

from worker.domain.validation import (
    LINE_BREAKS,
    CamelModel,
    check_count,
    check_length,
    check_message_ids,
    check_request_id,
    check_tags,
    check_text,
)
from worker.settings import Settings

__all__ = [
    "CamelModel",
    "ConversationResolved",
    "Id",
    "Label",
    "MessageIds",
    "Notes",
    "RequestId",
    "SnapshotRequest",
    "Tag",
    "Tags",
    "Trigger",
    "body_hash",
    "read_object_id",
]

Trigger = Literal["api", "client", "stream", "task", "conversation.resolved", "backfill"]


def read_object_id(value: Any) -> ObjectId:
    """Return the id as an ObjectId. `value`: an ObjectId or 24 hex digits; anything else raises ValueError."""
    if isinstance(value, ObjectId):
        return value
    if isinstance(value, str) and len(value) == 24:
        with suppress(InvalidId):
            return ObjectId(value)
    raise ValueError("should be an ObjectId of 24 hex digits")


def _limit(info: ValidationInfo, name: str) -> int:
    limits = info.context if isinstance(info.context, Settings) else _DEFAULT_LIMITS
    return int(getattr(limits, name))


_DEFAULT_LIMITS = Settings.model_construct()


def _check_notes(value: str, info: ValidationInfo) -> str:
    return check_text(check_length(value, _limit(info, "max_notes_length")), LINE_BREAKS)


def _check_label(value: str, info: ValidationInfo) -> str:
    return check_text(check_length(value, _limit(info, "max_label_length")))


def _check_tag(value: str, info: ValidationInfo) -> str:
    return check_text(check_length(value, _limit(info, "max_tag_length")))


def _count_tags(value: Any, info: ValidationInfo) -> Any:
    return check_count(value, _limit(info, "max_tags"), "tags")


def _check_tags(value: list[str], info: ValidationInfo) -> list[str]:
    return check_tags(value, _limit(info, "max_tag_length"))


def _count_message_ids(value: Any, info: ValidationInfo) -> Any:
    return check_count(value, _limit(info, "max_message_ids"), "message ids")


def _check_request_id(value: str) -> str:
    return check_request_id(value)


Id = Annotated[
    ObjectId,
    PlainValidator(read_object_id),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "pattern": "^[0-9a-fA-F]{24}$"}),
]
RequestId = Annotated[str, AfterValidator(_check_request_id)]
Notes = Annotated[str, AfterValidator(_check_notes)]
Label = Annotated[str, AfterValidator(_check_label)]
Tag = Annotated[str, AfterValidator(_check_tag)]
Tags = Annotated[list[str], Field(fail_fast=True), BeforeValidator(_count_tags), AfterValidator(_check_tags)]
MessageIds = Annotated[
    list[Id], Field(fail_fast=True), BeforeValidator(_count_message_ids), AfterValidator(check_message_ids)
]


class SnapshotRequest(CamelModel):
    """A request for a snapshot, as a caller sends it.

    The snapshot contains exactly the messages of `messageIds` if given, else those of `conversationId` if given, else
    all of the contact's.
    """

    organization_id: Id
    contact_id: Id
    conversation_id: Id | None = None
    message_ids: MessageIds | None = None
    user_id: Id | None = None
    notes: Notes | None = None
    tags: Tags = Field(default_factory=list)
    quality: Label | None = None
    category: Label | None = None
    request_id: RequestId | None = None

    def body(self) -> dict[str, Any]:
        """Return the caller's fields as the ledger stores them: in camelCase, without the request id."""
        body = {_ALIASES[name]: value for name, value in vars(self).items() if value is not None}
        body.pop("requestId", None)
        return body


class ConversationResolved(CamelModel):
    """A producer's report that a conversation was resolved.

    It is the data of an entry `conversation.resolved` in the intake stream, or the argument of the Celery task
    `conversations.resolved`.
    """

    organization_id: Id
    conversation_id: Id


_ALIASES = {name: to_camel(name) for name in SnapshotRequest.model_fields}
_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=str).encode


def body_hash(body: Mapping[str, Any]) -> str:
    """Return the SHA-256 (hex) of the body as canonical JSON, which does not depend on the order of the fields."""
    return hashlib.sha256(_canonical(body).encode()).hexdigest()
