"""The event of a verified erasure, for its schema in docs/schemas."""

from typing import Any, Literal

from worker.jobs.event_models import JobData, JobEvent


class ErasedData(JobData):
    """The data of a verified erasure. The receipt has no personal data."""

    receipt: dict[str, Any]


class ContactErasedEvent(JobEvent):
    """Sent once everything was searched and nothing of the contact was found any more."""

    type: Literal["training.contact.erased"]
    data: ErasedData
