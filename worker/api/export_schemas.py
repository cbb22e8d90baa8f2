"""The schemas of exports, for the OpenAPI document: the download of snapshots, and export jobs with their files."""

from typing import Any, Literal

from pydantic import Field

from worker.api.schemas import DateTime, Id, JobFailure, Shape


class Customer(Shape):
    """The customer of an exported snapshot; each field is null if the platform does not have it."""

    name: str | None
    phone: str | None
    email: str | None


class TranscriptLine(Shape):
    """One message as training data, in the order of the conversation."""

    role: Literal["assistant", "user"] = Field(description="`assistant` is the platform's side")
    content: str
    timestamp: DateTime
    sender_type: str


class Metadata(Shape):
    """The labels of an exported snapshot, and the number of its messages."""

    quality: str | None
    tags: list[str]
    category: str | None
    message_count: int


class Exported(Shape):
    """A snapshot as training data: its customer, its messages in order, and its labels."""

    id: Id
    customer: Customer
    conversation: list[TranscriptLine]
    metadata: Metadata


class Export(Shape):
    """The body of `GET /api/training/export`: all matching snapshots, as they were at one moment.

    It has no envelope with `success` and `message`, so that the file is training data alone.
    """

    export_date: DateTime
    organization_id: Id
    total_snapshots: int
    data: list[Exported]


class ExportFile(Shape):
    """A finished file of an export."""

    name: str = Field(description="the path within the export, such as `train.jsonl`")
    bytes: int | None = None
    sha256: str | None = Field(None, description="SHA-256 of the content, hex")
    removed: Literal["erased", "expired"] | None = Field(
        None, description="why the file was removed: a contact in it was erased, or snapshots in it were too old"
    )


class ExportJob(Shape):
    """An export. `counts`, `splits` and `files` are present once it is completed."""

    id: Id = Field(alias="_id")
    organization_id: Id
    user_id: Id | None = Field(description="the user who requested it; null for a command")
    status: Literal["accepted", "running", "completed", "failed", "cancelled"]
    spec: dict[str, Any] = Field(description="the body of the request that created it")
    progress: dict[str, Any]
    accepted_at: DateTime
    started_at: DateTime | None
    finished_at: DateTime | None
    error: JobFailure | None
    moment: DateTime | None = Field(description="the moment at which the snapshots were selected")
    counts: dict[str, Any] | None
    splits: dict[str, Any] | None
    files: list[ExportFile]
