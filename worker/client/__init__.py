"""A client for producers and consumers in Python. It needs only redis and pydantic.

    with SnapshotClient("redis://localhost:6379/0") as client:
        sent = client.request(organization_id=..., contact_id=..., conversation_id=...)
        outcome = client.wait(sent, timeout=30)

The request id is generated before the request is sent, so a retry never creates a second request.

The distribution `training-snapshots-client` (clients/python) has this package, and the modules that it imports, under
another name. Therefore all of them import each other relatively.
"""

from ..errors import BrokerUnavailable, InvalidRequest, InvalidSettings
from .async_client import AsyncSnapshotClient
from .client import SnapshotClient
from .models import CompletedEvent, Event, FailedEvent, Failure, NotDurable, Outcome, Rejected, Sent
from .steps import Names

__all__ = [
    "AsyncSnapshotClient",
    "BrokerUnavailable",
    "CompletedEvent",
    "Event",
    "FailedEvent",
    "Failure",
    "InvalidRequest",
    "InvalidSettings",
    "Names",
    "NotDurable",
    "Outcome",
    "Rejected",
    "Sent",
    "SnapshotClient",
]
