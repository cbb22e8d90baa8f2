"""The events of backfills, for their schemas in docs/schemas."""

from typing import Literal

from worker.jobs.event_models import FailedData, JobData, JobEvent


class BackfilledData(JobData):
    """The data of a completed backfill: its counts, as `worker.backfills.progress.Progress` describes them."""

    conversations: int | None
    requests: int
    accepted: int
    completed: int
    failed: int
    in_flight: int
    deleted: int
    failures: dict[str, int]
    refused: dict[str, int]


class BackfillCompletedEvent(JobEvent):
    """Sent once each request of the backfill has an outcome."""

    type: Literal["training.backfill.completed"]
    data: BackfilledData


class BackfillFailedEvent(JobEvent):
    """Sent once the failure is recorded. Requests that were accepted before still get their outcomes."""

    type: Literal["training.backfill.failed"]
    data: FailedData
