"""The events of exports, for their schemas in docs/schemas."""

from datetime import datetime
from typing import Any, Literal

from worker.jobs.event_models import FailedData, JobData, JobEvent


class CompletedExportData(JobData):
    """The data of a completed export."""

    format: str
    moment: datetime
    counts: dict[str, Any]
    splits: dict[str, Any]


class ExportCompletedEvent(JobEvent):
    """Sent once the files of the export can be read."""

    type: Literal["training.export.completed"]
    data: CompletedExportData


class ExportFailedEvent(JobEvent):
    """Sent once the failure is recorded. No files are left."""

    type: Literal["training.export.failed"]
    data: FailedData
