"""The base models of all events of jobs, from which the schemas in docs/schemas are made."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

_Id = Annotated[str, Field(pattern="^[0-9a-f]{24}$")]


class EventPart(BaseModel):
    """A JSON object with camelCase names."""

    model_config = ConfigDict(alias_generator=to_camel)


class JobData(EventPart):
    """The fields that `data` has in every event of a job."""

    organization_id: _Id
    job_id: _Id


class JobEvent(EventPart):
    """The CloudEvents attributes that every event of a job has."""

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
