"""Checkpoints: progress that outlives a process, such as resume tokens and how far a repair has come.

They are stored in the collection `snapshotstate`, one document per name.
"""

from collections.abc import Sequence

from pymongo import ReturnDocument
from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError

from worker.stores.connections import Connections, Document, store_errors

REDIS_CHECKPOINT = "redis"
"""What `worker.sweep.replay` records about Redis."""
EXPIRED = {"_id": "expired"}
"""Selects the count of snapshots that were removed because of their age."""


class Checkpoints:
    """Named documents, changed atomically. All methods raise StoreUnavailable and StoreConflict."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    @property
    def collection(self) -> Collection[Document]:
        return self._connections.database[self._connections.settings.state_collection]

    def get(self, name: str) -> Document:
        """Return the document of this name, or an empty one."""
        with store_errors():
            return self.collection.find_one({"_id": name}) or {}

    def set(self, name: str, fields: Document, expected: Document | None = None) -> bool:
        """Set fields if the document matches the filter `expected`; return whether it did. Without it, always set."""
        return self.swap(name, fields, expected) is not None

    def swap(self, name: str, fields: Document, expected: Document | None = None) -> Document | None:
        """Set fields as `set` does; return the previous document (empty if there was none), or None."""
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
        """Change the document by an aggregation pipeline; return it as changed."""
        with store_errors():
            changed = self.collection.find_one_and_update(
                {"_id": name}, stages, upsert=True, return_document=ReturnDocument.AFTER
            )
        return changed or {}
