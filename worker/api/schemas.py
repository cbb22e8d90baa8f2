"""The shapes of the answers, for the OpenAPI document. Requests: `parameters`."""

from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

ID = "6a1b2c3d4e5f60718293a4b5"

Id = Annotated[str, Field(pattern="^[0-9a-f]{24}$", examples=[ID])]
DateTime = Annotated[str, Field(json_schema_extra={"format": "date-time"}, examples=["2026-05-18T14:30:00.000Z"])]

Data = TypeVar("Data")


class Shape(BaseModel):
    """camelCase outside."""

    model_config = ConfigDict(alias_generator=to_camel)


class Message(Shape):
    """As it was captured."""

    id: str
    content: str
    sender: str = Field(examples=["contact", "user"], description="`user` is the platform's side")
    sender_type: str = Field(examples=["CONTACT", "HUMAN", "AI"])
    timestamp: DateTime


class User(Shape):
    """Who asked for the snapshot."""

    id: Id = Field(alias="_id")
    first_name: str | None
    last_name: str | None
    email: str | None


class Contact(Shape):
    """Whose conversation it is."""

    id: Id = Field(alias="_id")
    first_name: str | None
    last_name: str | None
    phone_number: str | None
    email: str | None
    channel_type: str | None


class Captured(Shape):
    """What all views of a snapshot have."""

    id: Id = Field(alias="_id")
    organization_id: Id
    customer_name: str
    customer_phone: str | None
    customer_email: str | None
    messages: list[Message]
    message_count: int
    snapshot_date: DateTime
    conversation_start_date: DateTime
    conversation_end_date: DateTime
    notes: str | None
    tags: list[str]
    quality: str | None
    category: str | None
    is_archived: bool
    request_id: str | None = None
    conversation_id: Id | None = None
    trigger: str | None = None
    supersedes: Id | None = None
    content_hash: str | None = Field(None, description="SHA-256, hex, of the messages as stored")
    created_at: DateTime
    updated_at: DateTime
    version: int = Field(0, alias="__v")


class Snapshot(Captured):
    """A training snapshot; user and contact are ids."""

    user_id: Id | None
    contact_id: Id


class PopulatedSnapshot(Captured):
    """A training snapshot with its user and contact; null where they are gone."""

    user_id: User | None
    contact_id: Contact | None


class Done(Shape, Generic[Data]):
    """The envelope."""

    success: Literal[True]
    message: str
    data: Data


class Deleted(Shape):
    """The envelope without data."""

    success: Literal[True]
    message: str


class Pending(Shape):
    """A request that is accepted and not done."""

    id: Id = Field(alias="_id", description="the snapshot will have the same")
    request_id: str
    status: Literal["accepted"]
    accepted_at: DateTime


class Pagination(Shape):
    """Where this page is."""

    page: int
    limit: int
    total: int
    pages: int
    next: str | None = Field(description="give it as `after` for the page behind this one; null: there is none")


class Listed(Done[list[PopulatedSnapshot]]):
    """A page, newest first."""

    pagination: Pagination


class Fault(Shape):
    """What is wrong with one field."""

    field: str
    message: str


class Failure(Shape):
    """The envelope of an error."""

    success: Literal[False]
    message: str
    code: str = Field(examples=["invalid_request", "contact_not_found", "token_expired"])
    errors: list[Fault]


class Unavailable(Failure):
    """What a 503 says."""

    idempotency_key: str | None = Field(None, description="repeat the POST with this key")


class Customer(Shape):
    """Of an exported snapshot."""

    name: str | None
    phone: str | None
    email: str | None


class Turn(Shape):
    """A message as training data."""

    role: Literal["assistant", "user"] = Field(description="`assistant` is the platform's side")
    content: str
    timestamp: DateTime
    sender_type: str


class Metadata(Shape):
    """Of an exported snapshot."""

    quality: str | None
    tags: list[str]
    category: str | None
    message_count: int


class Exported(Shape):
    """A snapshot as training data."""

    id: Id
    customer: Customer
    conversation: list[Turn]
    metadata: Metadata


class Export(Shape):
    """All of it, without an envelope."""

    export_date: DateTime
    organization_id: Id
    total_snapshots: int
    data: list[Exported]


class Alive(Shape):
    """The process answers."""

    status: Literal["ok"]


class Ready(Shape):
    """`degraded`: Redis is down; requests are accepted, and done after its return."""

    status: Literal["ready", "degraded", "unavailable"]
    mongo: bool
    redis: bool


def failures(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Documents these errors, and those that every operation has."""
    said = {
        400: "invalid: each fault is in `errors`",
        401: "token missing, expired or malformed",
        403: "the token's role may not do this",
        404: "there is no such thing in this organization",
        409: "the same key with another body, or a snapshot that is still being made",
        413: "the body, or the snapshot, is too large",
        429: "too many requests with this token",
        503: "MongoDB is down, or whether the request was accepted is unknown: repeat it with the same key",
    }
    found: dict[int | str, dict[str, Any]] = {}
    for status in sorted({401, 429, 503, *statuses}):
        model = Unavailable if status == 503 else Failure
        found[status] = {"model": model, "description": said[status]}
        if status in {429, 503}:
            found[status]["headers"] = {"Retry-After": {"description": "seconds", "schema": {"type": "string"}}}
    return found
