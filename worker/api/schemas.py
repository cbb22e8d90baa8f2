"""The schemas of the responses, for the OpenAPI document. `parameters` has those of the requests."""

from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

ID = "6a1b2c3d4e5f60718293a4b5"

Id = Annotated[str, Field(pattern="^[0-9a-f]{24}$", examples=[ID])]
DateTime = Annotated[str, Field(json_schema_extra={"format": "date-time"}, examples=["2026-05-18T14:30:00.000Z"])]

Data = TypeVar("Data")


class Shape(BaseModel):
    """The base of all responses: a JSON object with camelCase names."""

    model_config = ConfigDict(alias_generator=to_camel)


class Message(Shape):
    """A captured message. It never changes after the capture."""

    id: str = Field(description="the platform's id of the message, as text")
    content: str = Field(description="the text; empty if the message has none")
    sender: str = Field(examples=["contact", "user"], description="`user` is the platform's side")
    sender_type: str = Field(examples=["CONTACT", "HUMAN", "AI"])
    timestamp: DateTime


class User(Shape):
    """The user who requested the snapshot, as currently stored on the platform."""

    id: Id = Field(alias="_id")
    first_name: str | None
    last_name: str | None
    email: str | None


class Contact(Shape):
    """The contact of the conversation, as currently stored on the platform; the customer's fields are as captured."""

    id: Id = Field(alias="_id")
    first_name: str | None
    last_name: str | None
    phone_number: str | None
    email: str | None
    channel_type: str | None


class Redaction(Shape):
    """The redactions that the organization's policy made."""

    policy: int = Field(description="version of the policy's redaction")
    counts: dict[str, int] = Field(description="the number of replacements, by kind of personal data")


class ErasedMentions(Shape):
    """The addresses and numbers of erased contacts that were replaced after the capture."""

    at: DateTime = Field(description="when text was last replaced")
    counts: dict[str, int] = Field(description="the number of replacements, by kind of personal data")


class Captured(Shape):
    """The fields of a snapshot, whether its user and contact are ids or documents."""

    id: Id = Field(alias="_id")
    organization_id: Id
    customer_name: str
    customer_phone: str | None
    customer_email: str | None
    messages: list[Message]
    message_count: int
    snapshot_date: DateTime = Field(description="when the messages were captured")
    conversation_start_date: DateTime = Field(description="time of the first message")
    conversation_end_date: DateTime = Field(description="time of the last message")
    notes: str | None
    tags: list[str]
    quality: str | None
    category: str | None
    is_archived: bool = Field(description="lists and exports omit archived snapshots by default")
    request_id: str | None = Field(None, description="the idempotency key of the request")
    conversation_id: Id | None = Field(
        None, description="absent or null if messages of all conversations were requested"
    )
    trigger: str | None = Field(None, description="how the request came in, such as `api` or `backfill`")
    supersedes: Id | None = Field(None, description="the snapshot of the previous closing of the conversation")
    content_hash: str | None = Field(None, description="SHA-256, hex, of the messages as stored")
    omitted_message_count: int | None = Field(
        None, description="deleted and internal messages that were omitted; absent if no setting names their flags"
    )
    redaction: Redaction | None = Field(None, description="what was redacted; absent if the policy redacts nothing")
    erased_mentions: ErasedMentions | None = Field(
        None, description="what was redacted because another contact was erased; absent if nothing was"
    )
    created_at: DateTime
    updated_at: DateTime
    version: int = Field(0, alias="__v")


class Snapshot(Captured):
    """A training snapshot; user and contact are ids."""

    user_id: Id | None
    contact_id: Id


class PopulatedSnapshot(Captured):
    """A training snapshot with its user and contact; null if they no longer exist."""

    user_id: User | None
    contact_id: Contact | None


class Done(Shape, Generic[Data]):
    """The body of every successful response that returns something: `data` is what the operation documents."""

    success: Literal[True]
    message: str
    data: Data


class DeletedResponse(Shape):
    """The body of a successful response that returns nothing, such as a deletion's."""

    success: Literal[True]
    message: str


class Pending(Shape):
    """A request that is accepted and has no outcome yet. Poll `Location` for it."""

    id: Id = Field(alias="_id", description="the snapshot will have the same id")
    request_id: str
    status: Literal["accepted"]
    accepted_at: DateTime


class Pagination(Shape):
    """Which page this is, how many there are, and how to get the next one."""

    page: int
    limit: int
    total: int
    pages: int
    next: str | None = Field(description="the `after` of the next page; null on the last page")


class Listed(Done[list[PopulatedSnapshot]]):
    """A page of snapshots, newest first."""

    pagination: Pagination


class Fault(Shape):
    """An invalid field of the request, what is wrong with it, and what is allowed."""

    field: str
    message: str


class FailureResponse(Shape):
    """The body of every error: `code` is for programs, `message` for people, and `errors` names each faulty field."""

    success: Literal[False]
    message: str
    code: str = Field(examples=["invalid_request", "contact_not_found", "token_expired"])
    errors: list[Fault]


class Unavailable(FailureResponse):
    """The body of a 503. No fault was found in the request, so it can be repeated unchanged."""

    idempotency_key: str | None = Field(None, description="the Idempotency-Key to repeat the POST with")


class JobFailure(Shape):
    """Why an export, a backfill or an erasure failed: `code` is for programs, `message` for people."""

    code: str = Field(examples=["destination_failed"])
    message: str
    details: dict[str, Any] = Field(description="additional information, depending on the code")


class Alive(Shape):
    """The body of `GET /healthz`: the process answers."""

    status: Literal["ok"]


class Ready(Shape):
    """The body of `GET /readyz`: whether requests can be accepted, and which servers and workers are up.

    `degraded` means that Redis is down, or that no worker of `snapshots` was alive in the last 30 s. Requests are then
    accepted, and processed later. `unavailable` means that MongoDB is down, so that nothing can be accepted.
    """

    status: Literal["ready", "degraded", "unavailable"]
    mongo: bool
    redis: bool
    workers: bool


LOCATION: dict[str, Any] = {"Location": {"description": "the path of the snapshot", "schema": {"type": "string"}}}
EXPORT_LOCATION: dict[str, Any] = {"Location": {"description": "the path of the export", "schema": {"type": "string"}}}
LINKS: dict[str, Any] = {
    name: {"operationId": f"{name}Snapshot", "parameters": {"id": "$response.body#/data/_id"}}
    for name in ("get", "update", "delete")
}
ATTACHMENT: dict[str, Any] = {
    "Content-Disposition": {"description": "the name of the file", "schema": {"type": "string"}}
}
_RETRY_AFTER: dict[str, Any] = {
    "Retry-After": {"description": "how many seconds to wait", "schema": {"type": "string"}}
}
_DESCRIPTIONS = {
    400: "The request is not valid; `errors` lists each fault.",
    401: "The token is missing, has expired or is not valid.",
    403: "The token's role does not permit this.",
    404: "Not found in this organization.",
    409: "The request conflicts with the current state; `code` says how, such as `request_id_conflict`.",
    410: "The contact was erased.",
    413: "The body or the snapshot is too large.",
    429: "The user has sent too many requests, or the organization has too many operations in progress.",
    503: "A server is unavailable, or the outcome is unknown. Repeat with `idempotencyKey` if the response has one.",
}


def error_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Document these errors and those that every operation has."""
    documented: dict[int | str, dict[str, Any]] = {}
    for status in sorted({401, 429, 503, *statuses}):
        model = Unavailable if status == 503 else FailureResponse
        documented[status] = {"model": model, "description": _DESCRIPTIONS[status]}
        if status in {429, 503}:
            documented[status]["headers"] = _RETRY_AFTER
    return documented
