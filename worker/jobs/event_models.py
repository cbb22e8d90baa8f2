"""What the events of all kinds of jobs share, for their schemas in docs/schemas."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

_Id = Annotated[str, Field(pattern="^[0-9a-f]{24}$")]


class EventPart(BaseModel):
    """A JSON object with camelCase names."""

    model_config = ConfigDict(alias_generator=to_camel)


class JobData(EventPart):
    """The fields that the data of each event have."""

    organization_id: _Id
    job_id: _Id


class JobEvent(EventPart):
    """The attributes that each event has."""

    specversion: Literal["1.0"]
    id: Annotated[str, Field(pattern=r"^[0-9a-f]{24}\.0$")]
    source: Literal["/training/jobs"]
    subject: _Id
    time: datetime
    datacontenttype: Literal["application/json"]


class JobFailure(EventPart):
    """Why a job failed."""

    code: str
    message: str
    details: dict[str, Any]


class FailedData(JobData):
    """The data of a failed job."""

    error: JobFailure
