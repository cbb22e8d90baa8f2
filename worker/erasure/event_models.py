"""The events of erasures, for their schemas in docs/schemas."""

from typing import Any, Literal

from worker.jobs.event_models import FailedData, JobData, JobEvent


class ErasedData(JobData):
    """The data of a verified erasure. The receipt has no personal data."""

    receipt: dict[str, Any]


class ContactErasedEvent(JobEvent):
    """Sent once a search of all data has found none of the contact's."""

    type: Literal["training.contact.erased"]
    data: ErasedData


class ErasureFailedEvent(JobEvent):
    """Sent once the failure is recorded. Requests for the contact are still refused."""

    type: Literal["training.erasure.failed"]
    data: FailedData
