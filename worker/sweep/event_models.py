"""The events of removals by age, for their schemas in docs/schemas."""

from typing import Literal

from worker.jobs.event_models import FailedData, JobData, JobEvent


class ExpiredData(JobData):
    """The data of a removal by age."""

    removed: dict[str, int]
    """Counts by place."""


class RetentionCompletedEvent(JobEvent):
    """Sent once nothing that is too old is left, neither in the database nor in the files of exports."""

    type: Literal["training.retention.completed"]
    data: ExpiredData


class RetentionFailedEvent(JobEvent):
    """Sent once the failure is recorded. Whatever was removed before stays removed; the next job removes the rest."""

    type: Literal["training.retention.failed"]
    data: FailedData
