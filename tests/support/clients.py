"""A client and a contact for the tests of the Python client."""

from collections.abc import Callable
from typing import Any

from support.contacts import Contact
from support.waiting import allowed
from worker.client import Sent, SnapshotClient


def ask(client: SnapshotClient, contact: Contact, **fields: Any) -> Sent:
    """Request a snapshot of the contact's messages."""
    return client.request(contact.organization, contact.id, **fields)


def event_ids(client: SnapshotClient, consumer: str = "c", take: Callable[[str], bool] | None = None) -> list[str]:
    """Return the ids of the events that a consumer gets, up to the first one for which `take` is false."""
    seen = []
    for event in client.events("g", consumer, timeout=allowed(0.2), take_over_after=0.5):
        seen.append(event.id)
        if take and not take(event.id):
            break
    return seen
