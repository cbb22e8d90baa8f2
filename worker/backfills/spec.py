"""The specification of a backfill, validated from what a caller sends."""

from typing import Annotated, Any

from bson import ObjectId
from pydantic import AfterValidator, BeforeValidator, Field

from worker.domain.requests import CamelModel, Id, Label, Notes, SnapshotRequest, Tags
from worker.domain.snapshot_filter import Time
from worker.domain.validation import check_count, check_text
from worker.jobs.job import Job
from worker.settings import Settings

MAX_CHANNELS = 50
MAX_COUNT = 2**31 - 1


def _as_integer(value: Any) -> Any:
    """Return 5 for 5.0, which is an integer in JSON."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _check_channels(value: list[str]) -> list[str]:
    return [check_text(each) for each in check_count(value, MAX_CHANNELS, "channels")]


Channels = Annotated[list[Annotated[str, Field(min_length=1, max_length=100)]], AfterValidator(_check_channels)]
Count = Annotated[int, BeforeValidator(_as_integer), Field(ge=1, le=MAX_COUNT, strict=True)]


class BackfillSpec(CamelModel):
    """Selects conversations of an organization, and has the fields that all their requests get.

    Without filters, all conversations are selected. The texts are limited as those of a single request.
    """

    organization_id: Id
    from_: Annotated[Time | None, Field(alias="from")] = None
    """Conversations that began then or later. A conversation begins with its first message."""
    to: Time | None = None
    """Conversations that began then or earlier."""
    channels: Channels | None = None
    """Conversations that have one of these in `channelType`; at most 50."""
    min_messages: Count | None = None
    """Conversations with at least this many messages."""
    limit: Count | None = None
    """Maximum number of conversations, taken in the order of their ids."""
    user_id: Id | None = None
    notes: Notes | None = None
    tags: Tags = Field(default_factory=list)
    quality: Label | None = None
    category: Label | None = None

    @classmethod
    def of(cls, job: Job, limits: Settings) -> "BackfillSpec":
        """Read the specification of a job. Raises InvalidRequest if the limits have become lower."""
        return cls.read(job.spec, limits, {"organizationId": job.organization})

    @property
    def depends_on_messages(self) -> bool:
        """Whether the filters need the messages of conversations."""
        return self.min_messages is not None or self.depends_on_time

    @property
    def depends_on_time(self) -> bool:
        """Whether the filters need the time of a conversation's first message."""
        return self.from_ is not None or self.to is not None

    def selects(self, messages: int, began: int | None) -> bool:
        """Return whether a conversation is selected. `messages`: their number. `began`: time of the first, in ms."""
        if messages < (self.min_messages or 0):
            return False
        if not self.depends_on_time:
            return True
        if began is None:
            return False
        return (self.from_ is None or began >= int(self.from_)) and (self.to is None or began <= int(self.to))

    def request(self, contact: ObjectId, conversation: ObjectId) -> SnapshotRequest:
        """Return the request for a conversation. Its fields are validated already."""
        names = ("organization_id", "user_id", "notes", "tags", "quality", "category")
        fields: dict[str, Any] = {name: getattr(self, name) for name in names}
        return SnapshotRequest.model_construct(
            **fields, contact_id=contact, conversation_id=conversation, message_ids=None, request_id=None
        )
