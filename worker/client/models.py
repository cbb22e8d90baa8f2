"""Requests, events and outcomes of the Python client. Ids are text, so bson is not needed."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias, TypedDict

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, TypeAdapter
from pydantic.alias_generators import to_camel

from ..domain.validation import (
    LINE_BREAKS,
    CamelModel,
    check_message_ids,
    check_request_id,
    check_tags,
    check_text,
)
from ..errors import Refused, TransientError

_HEX = frozenset("0123456789abcdefABCDEF")


def _read_hex(value: Any) -> str:
    # Accepts bson.ObjectId without importing bson.
    text = str(value) if type(value).__name__ == "ObjectId" else value
    if isinstance(text, str) and len(text) == 24 and set(text) <= _HEX:
        return text.lower()
    raise ValueError("should be an ObjectId of 24 hex digits")


def _check_notes(value: str) -> str:
    return check_text(value, LINE_BREAKS)


def _check_label(value: str) -> str:
    return check_text(value)


def _check_tags(value: list[str]) -> list[str]:
    return check_tags(value)


def _check_request_id(value: str) -> str:
    return check_request_id(value)


HexId = Annotated[str, BeforeValidator(_read_hex)]
Label = Annotated[str, AfterValidator(_check_label)]


class Request(CamelModel):
    """A request as the client sends it. The service's settings limit lengths and counts, not this model."""

    organization_id: HexId
    contact_id: HexId
    conversation_id: HexId | None = None
    message_ids: Annotated[list[HexId], Field(fail_fast=True), AfterValidator(check_message_ids)] | None = None
    user_id: HexId | None = None
    notes: Annotated[str, AfterValidator(_check_notes)] | None = None
    tags: Annotated[list[str], Field(fail_fast=True), AfterValidator(_check_tags)] = Field(default_factory=list)
    quality: Label | None = None
    category: Label | None = None
    request_id: Annotated[str, AfterValidator(_check_request_id)]


class RequestFields(TypedDict, total=False):
    """The optional fields of a request. None is the same as absent. Lengths and counts are the service's defaults."""

    conversation_id: object | None
    """The conversation to copy. If absent, all messages of the contact are copied, of all its conversations."""
    message_ids: Iterable[object] | None
    """Exactly these messages: 1 to 10,000 ids, none repeated. If absent, all messages."""
    user_id: object | None
    """The user who requests the snapshot, recorded as its creator."""
    notes: str | None
    """Free text of up to 10,000 characters; line breaks are allowed."""
    tags: Iterable[str]
    """Up to 50 tags, each of up to 100 characters and not blank."""
    quality: str | None
    """A label of up to 100 characters, such as `good`. The service does not interpret it."""
    category: str | None
    """A label of up to 100 characters, such as `billing`. The service does not interpret it."""
    request_id: str | None
    """Idempotency key of up to 200 characters: requests with the same key are one request. Generated if absent."""


def fields_of(organization_id: object, contact_id: object, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the camelCase fields of the entry, not validated yet."""
    named = {"organizationId": organization_id, "contactId": contact_id}
    return named | {to_camel(name): _as_list(value) for name, value in fields.items()}


def _as_list(value: object) -> object:
    """Return any collection as a list. Text is not a collection here, so that validation refuses it."""
    return list(value) if isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping) else value


class Closing(CamelModel):
    """A report that a conversation was resolved, as the client sends it."""

    organization_id: HexId
    conversation_id: HexId


# --- events -------------------------------------------------------------------------------------------------

EventId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{24}\.[0-9]+$")]
KnownId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{24}$")]


class _EventPart(BaseModel):
    """A part of an event. Unknown fields, which a later version may add, are ignored."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )


class Failure(_EventPart):
    """Why a request failed."""

    code: str
    """One of: contact_not_found, conversation_not_found, messages_not_found, empty_conversation, worker_lost,
    snapshot_too_large, retries_exhausted, invalid_request, erased."""
    message: str
    """A sentence for people. It may change; decide by `code`."""
    details: dict[str, Any]
    """More facts, which depend on the code, such as `missing`: the ids of missing messages."""


class EventData(_EventPart):
    """Fields that both kinds of event have."""

    organization_id: KnownId
    request_id: str
    """The idempotency key of the request, which its producer chose or which was generated."""
    contact_id: KnownId | None
    """None if the request failed before its contact was known."""
    conversation_id: KnownId | None
    """None if the request is for all messages of a contact."""
    trigger: str
    """How the request came in: `api`, `client`, `stream`, `task`, `conversation.resolved` or `backfill`."""


class Redaction(_EventPart):
    """The redactions in a snapshot."""

    policy: Annotated[int, Field(ge=1)]
    """The version of the policy's redaction."""
    counts: dict[str, int]
    """The number of replacements, by kind, such as `email`."""


class CompletedData(EventData):
    """The data of a completed request."""

    message_count: Annotated[int, Field(ge=1)]
    quality: str | None
    category: str | None
    tags: list[str]
    unchanged: bool = False
    """True if no copy was made because the messages equal those of the earlier snapshot `snapshot_id`."""
    snapshot_id: KnownId | None = None
    redaction: Redaction | None = None
    """The redactions that the organization's policy made; None if it redacts nothing."""


class FailedData(EventData):
    """The data of a failed request."""

    error: Failure


class _Event(_EventPart):
    specversion: Literal["1.0"]
    id: EventId
    """`<request>.<round>`; repeats of an event have the same id."""
    source: Literal["/training/snapshots"]
    subject: KnownId
    """The snapshot's id, or the id it would have had if the request failed."""
    time: datetime
    datacontenttype: Literal["application/json"]


class CompletedEvent(_Event):
    """Sent once the snapshot can be read."""

    type: Literal["training.snapshot.completed"]
    data: CompletedData


class FailedEvent(_Event):
    """Sent once the failure is recorded. A redrive of the request sends an event of its own."""

    type: Literal["training.snapshot.failed"]
    data: FailedData


Event: TypeAlias = CompletedEvent | FailedEvent
EVENT: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="type")])


# --- results ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sent:
    """A request on the stream. It is accepted once a listener has read it; `wait` returns its outcome."""

    request_id: str
    """The idempotency key that was passed, or the generated one."""
    organization_id: str
    """24 hex digits, in lower case."""
    entry_id: str
    """The id that Redis gave to the stream entry."""
    since: tuple[str, str]
    """The last ids of the event stream and the rejected stream before it was sent."""
    may_be_older: bool
    """Whether the request id may have been used before, so that its event may precede `since`."""
    snapshot_id: str | None = None
    """None until the request is completed."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a request: either `snapshot_id` or `error` is set.

    Example:
        outcome = client.wait(sent)
        print(outcome.snapshot_id if outcome.completed else outcome.error.message)
    """

    request_id: str
    snapshot_id: str | None
    """The snapshot, 24 hex digits. None if the request failed."""
    error: Failure | None
    """Why the request failed. None if it is completed."""
    event: Event
    """The event that announced the outcome."""

    @property
    def completed(self) -> bool:
        """Whether there is a snapshot."""
        return self.error is None


class Rejected(Refused):
    """The service refused the entry; `details` holds its code and details."""

    code = "rejected"


class NotDurable(TransientError):
    """Redis has not confirmed that the entry is on disk."""

    code = "not_durable"
