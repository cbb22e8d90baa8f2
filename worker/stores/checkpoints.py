"""Checkpoints: progress that outlives a process, such as the resume token of a change stream.

They are stored in the collection `snapshotstate`, one document per name.
"""

from collections.abc import Sequence

from pymongo import ReturnDocument
from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError

from worker.stores.connections import Connections, Document, store_errors

REDIS_CHECKPOINT = "redis"
"""The name of the checkpoint in which `worker.sweep.replay` records the state of Redis."""
EXPIRED = {"_id": "expired"}
"""Matches the document that counts the snapshots removed because of their age."""


class Checkpoints:
    """Named documents, changed atomically. All methods raise StoreUnavailable and StoreConflict."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    @property
    def collection(self) -> Collection[Document]:
        """The collection `snapshotstate`."""
        return self._connections.database[self._connections.settings.state_collection]

    def get(self, name: str) -> Document:
        """Return the document of this name, or an empty one."""
        with store_errors():
            return self.collection.find_one({"_id": name}) or {}

    def set(self, name: str, fields: Document, expected: Document | None = None) -> bool:
        """Set fields of the document of this name if it matches the filter `expected`; return whether it did.

        A document that does not exist is created. None as the filter matches always.
        """
        return self.swap(name, fields, expected) is not None

    def swap(self, name: str, fields: Document, expected: Document | None = None) -> Document | None:
        """Set fields as `set` does; return the previous document (empty if new), or None if it did not match."""
        with store_errors():
            try:
                return (
                    self.collection.find_one_and_update(
                        {"_id": name, **(expected or {})}, {"$set": fields}, upsert=True
                    )
                    or {}
                )
            except DuplicateKeyError:
                return None  # the document exists and does not match

    def update(self, name: str, stages: Sequence[Document]) -> Document:
        """Change the document with the stages of an aggregation pipeline; return the new document."""
        with store_errors():
            changed = self.collection.find_one_and_update(
                {"_id": name}, stages, upsert=True, return_document=ReturnDocument.AFTER
            )
        return changed or {}
