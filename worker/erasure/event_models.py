"""The event of a verified erasure, for its schema in docs/schemas."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

_Id = Annotated[str, Field(pattern="^[0-9a-f]{24}$")]


class _Part(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel)


class ErasedData(_Part):
    """The data of a verified erasure. The receipt has no personal data."""

    organization_id: _Id
    job_id: _Id
    receipt: dict[str, Any]


class ContactErasedEvent(_Part):
    """Sent once everything was searched and nothing of the contact was found any more."""

    specversion: Literal["1.0"]
    id: Annotated[str, Field(pattern=r"^[0-9a-f]{24}\.0$")]
    source: Literal["/training/jobs"]
    subject: _Id
    time: datetime
    datacontenttype: Literal["application/json"]
    type: Literal["training.contact.erased"]
    data: ErasedData
