"""What the Python client sends and gives: requests, events, outcomes. Ids are text; nothing of MongoDB is needed."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias, TypedDict

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, TypeAdapter
from pydantic.alias_generators import to_camel

from worker.domain.validation import (
    LINE_BREAKS,
    CamelModel,
    check_message_ids,
    check_request_id,
    check_tags,
    check_text,
)
from worker.errors import Refused, TransientError

_HEX = frozenset("0123456789abcdefABCDEF")


def _read_hex(value: Any) -> str:
    # bson's ObjectId, which is not imported here.
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


def _check_message_ids(value: list[str]) -> list[str]:
    return check_message_ids(value)


def _check_request_id(value: str) -> str:
    return check_request_id(value)


HexId = Annotated[str, BeforeValidator(_read_hex)]
Label = Annotated[str, AfterValidator(_check_label)]


class Request(CamelModel):
    """A request as the client sends it. Lengths and numbers are limited by the server's settings, not here."""

    organization_id: HexId
    contact_id: HexId
    conversation_id: HexId | None = None
    message_ids: Annotated[list[HexId], AfterValidator(_check_message_ids)] | None = None
    user_id: HexId | None = None
    notes: Annotated[str, AfterValidator(_check_notes)] | None = None
    tags: Annotated[list[str], AfterValidator(_check_tags)] = Field(default_factory=list)
    quality: Label | None = None
    category: Label | None = None
    request_id: Annotated[str, AfterValidator(_check_request_id)]


class RequestFields(TypedDict, total=False):
    """What a request may say beside whose it is; what is left out or None is not sent."""

    conversation_id: object | None
    """All of the contact's messages without it."""
    message_ids: Iterable[object] | None
    """Exactly these messages."""
    user_id: object | None
    notes: str | None
    tags: Iterable[str]
    quality: str | None
    category: str | None
    request_id: str | None
    """Up to 200 characters; the same again is the same request. Made where it is left out."""


def fields_of(organization_id: object, contact_id: object, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The entry's fields, camelCase, not checked yet."""
    named = {"organizationId": organization_id, "contactId": contact_id}
    return named | {to_camel(name): _listed(value) for name, value in fields.items()}


def _listed(value: object) -> object:
    """Any collection as a list; a text is none of its letters, and is left for the check to refuse."""
    return list(value) if isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping) else value


class Closing(CamelModel):
    """A conversation that was resolved."""

    organization_id: HexId
    conversation_id: HexId


# --- events -------------------------------------------------------------------------------------------------

EventId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{24}\.[0-9]+$")]
KnownId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{24}$")]


class _Said(BaseModel):
    """Part of an event. Fields that a later version adds are passed over."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )


class Failure(_Said):
    """Why a request failed."""

    code: str
    """One of: contact_not_found, conversation_not_found, messages_not_found, empty_conversation, worker_lost,
    snapshot_too_large, retries_exhausted, invalid_request."""
    message: str
    details: dict[str, Any]


class EventData(_Said):
    """What both kinds of event say."""

    organization_id: KnownId
    request_id: str
    contact_id: KnownId | None
    conversation_id: KnownId | None
    trigger: str


class CompletedData(EventData):
    """What became of a completed request."""

    message_count: Annotated[int, Field(ge=1)]
    quality: str | None
    category: str | None
    tags: list[str]
    unchanged: bool = False
    """No copy was made, since the messages are those of the snapshot before, whose id is `snapshot_id`."""
    snapshot_id: KnownId | None = None


class FailedData(EventData):
    """Why a request failed."""

    error: Failure


class _Event(_Said):
    specversion: Literal["1.0"]
    id: EventId
    """`<request>.<round>`: the same for every repeat of an event."""
    source: Literal["/training/snapshots"]
    subject: KnownId
    """The snapshot's id; of a failed request the id that it would have had."""
    time: datetime
    datacontenttype: Literal["application/json"]


class CompletedEvent(_Event):
    """Fires once the snapshot can be read."""

    type: Literal["training.snapshot.completed"]
    data: CompletedData


class FailedEvent(_Event):
    """Fires once the failure is recorded; an operator may still have it tried again, with an event of its own."""

    type: Literal["training.snapshot.failed"]
    data: FailedData


Event: TypeAlias = CompletedEvent | FailedEvent
EVENT: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="type")])


# --- what a caller gets -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sent:
    """A request that Redis has. It is accepted once a listener has read it; `wait` tells what became of it."""

    request_id: str
    organization_id: str
    entry_id: str
    since: tuple[str, str]
    """The ends of the streams of events and of rejected entries before it was sent."""
    may_be_older: bool
    """Whether a request of this id may have been sent before, so that its event may lie before `since`."""
    snapshot_id: str | None = None
    """Not known until it is completed."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a request."""

    request_id: str
    snapshot_id: str | None
    """None where it failed."""
    error: Failure | None
    event: Event

    @property
    def completed(self) -> bool:
        return self.error is None


class Rejected(Refused):
    """The server refused the entry; `details` has its code and its details."""

    code = "rejected"


class NotDurable(TransientError):
    """Redis has not confirmed that the entry is on its disk."""

    code = "not_durable"
