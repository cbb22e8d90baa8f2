"""The events of exports, from which their schemas in docs/schemas are made."""

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
    """Sent once the failure is recorded. The export leaves no files."""

    type: Literal["training.export.failed"]
    data: FailedData
