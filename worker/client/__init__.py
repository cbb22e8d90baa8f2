"""For producers and consumers in Python. Only redis and pydantic are needed.

    with SnapshotClient("redis://localhost:6379/0") as client:
        sent = client.request(organization_id=..., contact_id=..., conversation_id=...)
        outcome = client.wait(sent, timeout=30)

A request is never sent twice as two: its id is made before it is sent, and whatever is sent again has the same.
"""

from worker.client.clients import AsyncSnapshotClient, SnapshotClient
from worker.client.models import CompletedEvent, Event, FailedEvent, Failure, NotDurable, Outcome, Rejected, Sent
from worker.client.steps import Names

__all__ = [
    "AsyncSnapshotClient",
    "CompletedEvent",
    "Event",
    "FailedEvent",
    "Failure",
    "Names",
    "NotDurable",
    "Outcome",
    "Rejected",
    "Sent",
    "SnapshotClient",
]
