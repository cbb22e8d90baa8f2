"""Reads one snapshot, or the state of its request."""

from dataclasses import dataclass
from typing import cast

import pymongo
from bson import ObjectId

from worker.api.populate import Populator
from worker.api.responses import encode
from worker.domain.ledger_entry import LedgerEntry
from worker.errors import NotFound, SnapshotDeleted
from worker.stores.connections import Connections, Document, store_errors

_MAX_SECONDS = 5
"""Time limit of a read in seconds, including the search for a server."""


@dataclass(frozen=True, slots=True)
class Found:
    """A snapshot as JSON, or the ledger entry of a request that has no snapshot yet or has failed."""

    document: bytes | None
    entry: LedgerEntry | None


class Reader:
    """Reads single snapshots of one organization. Its methods block."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._populate = Populator(connections)

    def one(self, organization: ObjectId, key: ObjectId) -> Found:
        """Read a snapshot or its request. Raises NotFound, SnapshotDeleted, StoreUnavailable, StoreConflict."""
        settings, database = self._connections.settings, self._connections.database
        snapshots, ledger = database[settings.snapshots_collection], database[settings.requests_collection]
        with pymongo.timeout(_MAX_SECONDS), store_errors():
            if document := snapshots.find_one({"_id": key, "organizationId": organization}):
                return self._found(organization, document)
            entry = ledger.find_one({"_id": key, "organizationId": organization})
            if entry is None:
                raise NotFound("Snapshot not found.")
            if entry.get("deletedAt"):
                raise SnapshotDeleted
            if entry.get("snapshotId") is None:
                return Found(None, cast("LedgerEntry", entry))
            # An earlier snapshot that this request found unchanged, or one that was made between the two reads.
            document = snapshots.find_one({"_id": entry["snapshotId"], "organizationId": organization})
            if document is None:
                raise NotFound("The request is completed, but its snapshot no longer exists.")
            return self._found(organization, document)

    def _found(self, organization: ObjectId, document: Document) -> Found:
        (populated,) = self._populate(organization, [document])
        return Found(encode(populated), None)
