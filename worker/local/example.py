"""Chooses a conversation of the platform's own database, with which the examples of the documentation run."""

from contextlib import closing
from dataclasses import dataclass

import pymongo
from bson import ObjectId

from worker.settings import Settings
from worker.source.ids import read_id
from worker.stores.connections import Connections, store_errors

_SECONDS = 5.0
_FIRST = 20
"""How many conversations are read. One is not enough, because some may lack a contact."""


@dataclass(frozen=True)
class Example:
    """The ids of a stored conversation."""

    organization: ObjectId
    contact: ObjectId
    conversation: ObjectId


def first_conversation(settings: Settings) -> Example | None:
    """Return the conversation with the lowest id that can be requested, or None. A restart finds the same one.

    Raises StoreUnavailable, StoreConflict.
    """
    with closing(Connections(settings)) as connections, store_errors(), pymongo.timeout(_SECONDS):
        collection = connections.database[settings.conversations_collection]
        fields = connections.fields.conversation.projection(["organizationId", "contactId"])
        for document in collection.find({}, fields).sort("_id").limit(_FIRST):
            ids = [read_id(document.get(name)) for name in ("organizationId", "contactId", "_id")]
            if all(isinstance(each, ObjectId) for each in ids):
                return Example(*ids)
    return None
