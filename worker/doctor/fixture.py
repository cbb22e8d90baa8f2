"""A conversation of the doctor's own, in an organization of its own, which nothing of is left afterwards."""

import time
from datetime import timedelta
from typing import Any

import pymongo
from bson import ObjectId
from pymongo.client_session import ClientSession

from worker.errors import StoreConflict
from worker.metrics.outcomes import DOCTORS
from worker.stores.connections import Connections, Document, store_errors

_ATTEMPTS = 10
_OLD = timedelta(minutes=10)
"""What a doctor that was killed left behind; another may be at work at this moment."""


class Fixture:
    """A contact with a conversation of one message."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._names = connections.settings
        self.contact, self.conversation, self._message = ObjectId(), ObjectId(), ObjectId()

    def create(self) -> None:
        """The conversation first, and removed last: by it the rest is found. Raises StoreUnavailable, StoreConflict."""
        ids = {"organizationId": DOCTORS, "contactId": self.contact}
        now = self._connections.clock.now()
        said = {"content": "ping", "sender": "contact", "timestamp": now, "createdAt": now}
        database = self._connections.database
        with store_errors():
            # Never resolved, so that it is no closing.
            conversation = {"_id": self.conversation, **ids, "isResolved": False, "createdAt": now}
            database[self._names.conversations_collection].insert_one(conversation)
            contact = {"_id": self.contact, "organizationId": DOCTORS, "firstName": "snapshots", "lastName": "doctor"}
            database[self._names.contacts_collection].insert_one(contact)
            message = {"_id": self._message, **ids, "conversationId": self.conversation, **said}
            database[self._names.messages_collection].insert_one(message)

    def remove(self) -> None:
        """All of it, with its requests and snapshots. Raises StoreUnavailable, StoreConflict."""
        remove(self._connections, self.contact, self.conversation)

    def remove_old(self) -> None:
        """What an earlier doctor could not remove. Raises StoreUnavailable, StoreConflict."""
        before = ObjectId.from_datetime(self._connections.clock.now() - _OLD)
        old = {"organizationId": DOCTORS, "_id": {"$lt": before}}
        with store_errors():
            for name, key in (
                (self._names.conversations_collection, "_id"),
                (self._names.requests_collection, "conversationId"),
            ):
                for each in list(self._connections.database[name].find(old)):
                    remove(self._connections, each["contactId"], each[key])


def remove(connections: Connections, contact: ObjectId, conversation: ObjectId) -> None:
    """Requests and snapshots in one transaction, so that the counts add up at all times; then the rest."""
    names, database = connections.settings, connections.database
    mine: Document = {"organizationId": DOCTORS, "conversationId": conversation}
    for attempt in range(_ATTEMPTS):
        time.sleep(0.05 * attempt)
        try:
            with pymongo.timeout(5), connections.transaction() as session:
                _remove_requests(connections, mine, session)
            break
        except StoreConflict:  # a run is about to decide it
            if attempt == _ATTEMPTS - 1:
                raise
    with store_errors():
        database[names.messages_collection].delete_many({"organizationId": DOCTORS, "contactId": contact})
        database[names.contacts_collection].delete_one({"_id": contact, "organizationId": DOCTORS})
        database[names.conversations_collection].delete_one({"_id": conversation, "organizationId": DOCTORS})


def _remove_requests(connections: Connections, mine: dict[str, Any], session: ClientSession) -> None:
    names = connections.settings
    for name in (names.requests_collection, names.snapshots_collection):
        connections.database[name].delete_many(mine, session=session)
