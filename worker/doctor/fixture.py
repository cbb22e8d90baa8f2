"""Stores the conversation of the test request, in an organization of its own, and removes it completely."""

import time
from datetime import timedelta
from typing import Any

import pymongo
from bson import ObjectId
from pymongo.client_session import ClientSession

from worker.domain.ledger_entry import DOCTORS_ORGANIZATION
from worker.errors import StoreConflict
from worker.stores.connections import Connections, Document, store_errors

_ATTEMPTS = 10
_ABANDONED_AFTER = timedelta(minutes=10)
"""Age from which a conversation belongs to a doctor that was killed. A younger one may belong to a running doctor."""


class Fixture:
    """The documents of the doctor's test request: a contact with a conversation of one message."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._names = connections.settings
        self._fields = connections.fields
        self.contact, self.conversation, self._message = ObjectId(), ObjectId(), ObjectId()

    def create(self) -> None:
        """Store the documents. The conversation is stored first and removed last, because it leads to the others.

        Raises StoreUnavailable, StoreConflict.
        """
        ids = {"organizationId": DOCTORS_ORGANIZATION, "contactId": self.contact}
        now = self._connections.clock.now()
        content = {"content": "ping", "sender": "contact", "timestamp": now, "createdAt": now}
        database = self._connections.database
        with store_errors():
            # Not resolved, so that it never counts as a closed conversation.
            conversation = {"_id": self.conversation, **ids, "isResolved": False, "createdAt": now}
            stored = self._fields.conversation.stored(conversation)
            database[self._names.conversations_collection].insert_one(stored)
            contact = {
                "_id": self.contact,
                "organizationId": DOCTORS_ORGANIZATION,
                "firstName": "snapshots",
                "lastName": "doctor",
            }
            database[self._names.contacts_collection].insert_one(self._fields.contact.stored(contact))
            message = {"_id": self._message, **ids, "conversationId": self.conversation, **content}
            database[self._names.messages_collection].insert_one(self._fields.message.stored(message))

    def remove(self) -> None:
        """Remove the documents with their requests and snapshots. Raises StoreUnavailable, StoreConflict."""
        remove(self._connections, self.contact, self.conversation)

    def remove_old(self) -> None:
        """Remove what killed doctors have left behind. Raises StoreUnavailable, StoreConflict."""
        before = ObjectId.from_datetime(self._connections.clock.now() - _ABANDONED_AFTER)
        stored = self._fields.conversation
        database, old = self._connections.database, {"_id": {"$lt": before}}
        with store_errors():
            conversations = database[self._names.conversations_collection].find(
                {stored["organizationId"]: DOCTORS_ORGANIZATION, **old}, stored.projection(["contactId"])
            )
            ledger, own = database[self._names.requests_collection], {"organizationId": DOCTORS_ORGANIZATION, **old}
            # Retention strips old requests of the ids by which everything else of theirs is found.
            ledger.delete_many({**own, "conversationId": {"$exists": False}})
            requests = ledger.find(own)
            for documents, key in ((conversations, "_id"), (requests, "conversationId")):
                for document in list(documents):
                    remove(self._connections, document["contactId"], document[key])


def remove(connections: Connections, contact: ObjectId, conversation: ObjectId) -> None:
    """Remove requests and snapshots in one transaction, so that the counts always add up; then the other documents."""
    names, fields, database = connections.settings, connections.fields, connections.database
    mine: Document = {"organizationId": DOCTORS_ORGANIZATION, "conversationId": conversation}
    for attempt in range(_ATTEMPTS):
        time.sleep(0.05 * attempt)
        try:
            with pymongo.timeout(5), connections.transaction() as session:
                _remove_requests(connections, mine, session)
            break
        except StoreConflict:  # a worker is deciding the request
            if attempt == _ATTEMPTS - 1:
                raise
    with store_errors():
        database[names.messages_collection].delete_many(
            {fields.message["organizationId"]: DOCTORS_ORGANIZATION, fields.message["contactId"]: contact}
        )
        database[names.contacts_collection].delete_one(
            {"_id": contact, fields.contact["organizationId"]: DOCTORS_ORGANIZATION}
        )
        database[names.conversations_collection].delete_one(
            {"_id": conversation, fields.conversation["organizationId"]: DOCTORS_ORGANIZATION}
        )


def _remove_requests(connections: Connections, mine: dict[str, Any], session: ClientSession) -> None:
    names = connections.settings
    for name in (names.requests_collection, names.snapshots_collection):
        connections.database[name].delete_many(mine, session=session)
