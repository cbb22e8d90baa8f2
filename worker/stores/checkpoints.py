"""Small facts that outlive a process: which Redis we know, how far a repair has come, resume tokens.

They lie in a collection of their own, `snapshotstate`, one document per keeper.
"""

from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError

from worker.stores.connections import Connections, Document, store_errors


class State:
    """Documents by name, changed by compare-and-set."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    @property
    def collection(self) -> Collection[Document]:
        return self._connections.database[self._connections.settings.state_collection]

    def get(self, name: str) -> Document:
        """The fields kept under a name; empty where there are none yet."""
        with store_errors():
            return self.collection.find_one({"_id": name}) or {}

    def set(self, name: str, fields: Document, expected: Document | None = None) -> bool:
        """Sets fields, if those in `expected` are as given; whether they were. Without it, always."""
        try:
            with store_errors():
                self._upsert({"_id": name, **(expected or {})}, fields)
        except _NotAsExpected:
            return False
        return True

    def _upsert(self, condition: Document, fields: Document) -> None:
        try:
            self.collection.update_one(condition, {"$set": fields}, upsert=True)
        except DuplicateKeyError:
            # There is one of this name, and it is not as expected.
            raise _NotAsExpected from None


class _NotAsExpected(Exception):
    """The document differs."""
