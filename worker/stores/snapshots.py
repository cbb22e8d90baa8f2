"""Inserts, reads and deletes snapshots."""

from collections.abc import Sequence

import pymongo
from bson import ObjectId
from bson.raw_bson import RawBSONDocument
from pymongo.client_session import ClientSession
from pymongo.collection import Collection

from worker.errors import StoreConflict
from worker.stores.connections import Connections, Document, store_errors

_LOOK_SECONDS = 1.0


class Snapshots:
    """The collection of snapshots. Only `insert` adds documents, within the transaction that decides the request."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    @property
    def collection(self) -> Collection[Document]:
        """The collection of snapshots, which the platform reads, too."""
        return self._connections.database[self._connections.settings.snapshots_collection]

    def insert(self, documents: Sequence[RawBSONDocument], session: ClientSession) -> None:
        """Insert snapshots. Raises StoreConflict if one of the ids exists, which aborts the transaction."""
        raw = self._connections.raw_database[self._connections.settings.snapshots_collection]
        with store_errors():
            raw.insert_many(documents, session=session)

    def get(self, organization: ObjectId, snapshot: ObjectId) -> Document | None:
        """Return the snapshot, or None if the organization has no such snapshot."""
        with store_errors():
            return self.collection.find_one({"_id": snapshot, "organizationId": organization})

    def may_have_any(self, condition: Document) -> bool:
        """Return whether a snapshot matches, or True if MongoDB does not find out within a second.

        That happens if no index serves the condition and few snapshots match. Raises StoreUnavailable.
        """
        try:
            with store_errors(), pymongo.timeout(_LOOK_SECONDS):
                return self.collection.find_one(condition, {"_id": 1}) is not None
        except StoreConflict:
            return True

    def delete(self, organization: ObjectId, snapshot: ObjectId, session: ClientSession) -> Document | None:
        """Delete a snapshot; return a document with its `requestId`, or None if the snapshot did not exist."""
        which = {"_id": snapshot, "organizationId": organization}
        with store_errors():
            return self.collection.find_one_and_delete(which, {"requestId": 1}, session=session)
