"""The events of exports, for their schemas in docs/schemas."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

_Id = Annotated[str, Field(pattern="^[0-9a-f]{24}$")]


class _Part(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel)


class ExportFailure(_Part):
    """Why an export failed."""

    code: str
    message: str
    details: dict[str, Any]


class ExportData(_Part):
    """Fields that both kinds of event have."""

    organization_id: _Id
    job_id: _Id


class CompletedExportData(ExportData):
    """The data of a completed export."""

    format: str
    moment: datetime
    counts: dict[str, Any]
    splits: dict[str, Any]


class FailedExportData(ExportData):
    """The data of a failed export."""

    error: ExportFailure


class _ExportEvent(_Part):
    specversion: Literal["1.0"]
    id: Annotated[str, Field(pattern=r"^[0-9a-f]{24}\.0$")]
    source: Literal["/training/jobs"]
    subject: _Id
    time: datetime
    datacontenttype: Literal["application/json"]


class ExportCompletedEvent(_ExportEvent):
    """Sent once the files of the export can be read."""

    type: Literal["training.export.completed"]
    data: CompletedExportData


class ExportFailedEvent(_ExportEvent):
    """Sent once the failure is recorded. No files are left."""

    type: Literal["training.export.failed"]
    data: FailedExportData
