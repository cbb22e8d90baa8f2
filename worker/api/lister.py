"""Reads: the list, one snapshot, the export. For threads; each carries the caller's organization."""

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pymongo
from bson import ObjectId
from bson.raw_bson import RawBSONDocument
from pymongo.client_session import ClientSession
from pymongo.collection import Collection

from worker.api.populate import Populate
from worker.api.queries import NEWEST_FIRST, ExportQuery, ListQuery, cursor_of
from worker.api.responses import encode
from worker.api.streaming import slices
from worker.errors import Deleted, NotFound
from worker.stores.connections import Connections, Document, store_errors

_SECONDS = 5
"""What finding one may take, with finding a server."""
_LONGEST_MS = 20_000
"""What MongoDB may work on a count or a page. As its own limit: `pymongo.timeout` would also be how long a server
that is down is looked for."""
_BATCH = 25
"""Snapshots that one reply of MongoDB brings; of the export as many as are about this many bytes."""
_BATCH_BYTES = 1_000_000
_MOST_IN_A_BATCH = 200


@dataclass(frozen=True, slots=True)
class Found:
    """What an id leads to: the snapshot as JSON, or the ledger's entry of a request that has none yet, or failed."""

    document: bytes | None
    entry: Document


class Reading:
    """On connections of its own, so that no export keeps a POST waiting."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._populate = Populate(connections)

    @property
    def _snapshots(self) -> Collection[Document]:
        return self._connections.database[self._connections.settings.snapshots_collection]

    @property
    def _raw(self) -> Collection[RawBSONDocument]:
        return self._connections.raw_database[self._connections.settings.snapshots_collection]

    def one(self, organization: ObjectId, key: ObjectId) -> Found:
        """Raises NotFound, Deleted, StoreUnavailable."""
        with pymongo.timeout(_SECONDS), store_errors():
            if document := self._snapshots.find_one({"_id": key, "organizationId": organization}):
                return self._found(organization, document)
            ledger = self._connections.database[self._connections.settings.requests_collection]
            entry = ledger.find_one({"_id": key, "organizationId": organization})
            if entry is None:
                raise NotFound("There is no such snapshot.")
            if entry.get("deletedAt"):
                raise Deleted
            if entry.get("snapshotId") is None:
                return Found(None, entry)
            # Unchanged since the snapshot before it: that is the one. Or the run ended between the two reads.
            document = self._snapshots.find_one({"_id": entry["snapshotId"], "organizationId": organization})
            if document is None:
                raise NotFound("There is no such snapshot any more.")
            return self._found(organization, document)

    def _found(self, organization: ObjectId, document: Document) -> Found:
        (populated,) = self._populate(organization, [document])
        return Found(encode(populated), {})

    def page(self, organization: ObjectId, query: ListQuery) -> Generator[bytes]:
        """The list's answer, in parts."""
        condition = query.condition(organization)
        with store_errors():
            total = self._snapshots.count_documents(condition, maxTimeMS=_LONGEST_MS)
        left = query.limit
        last: Document | None = None
        yield b'{"success":true,"message":"Training snapshots","data":['
        skipped = 0 if query.after else (query.page - 1) * query.limit
        found = (
            self._raw.find({**condition, **query.behind()}, batch_size=_BATCH)
            .sort(NEWEST_FIRST)
            .max_time_ms(_LONGEST_MS)
        )
        with store_errors(), found.skip(skipped).limit(query.limit + 1) as cursor:
            for documents in slices(cursor):
                for document in self._populate(organization, documents[:left]):
                    yield encode(document) if last is None else b"," + encode(document)
                    last = document
                left -= len(documents)
        pagination = {
            "page": query.page,
            "limit": query.limit,
            "total": total,
            "pages": -(-total // query.limit),
            "next": cursor_of(last) if left < 0 and last else None,
        }
        yield b'],"pagination":%s}' % encode(pagination)

    def export(self, organization: ObjectId, query: ExportQuery, now: datetime) -> Generator[bytes]:
        """The export, in parts. Count and content are of one moment (a snapshot read)."""
        condition = query.condition(organization)
        with store_errors(), self._connections.mongo.start_session(snapshot=True) as session:
            total = self._snapshots.count_documents(condition, session=session)
            head = {"exportDate": now, "organizationId": organization, "totalSnapshots": total}
            yield encode(head)[:-1] + b',"data":['
            comma = b""
            batch = self._batch_of(condition, session)
            found = self._raw.find(condition, session=session, batch_size=batch).sort(NEWEST_FIRST)
            with found as cursor:
                for documents in slices(cursor):
                    for document in documents:
                        yield comma + encode(_exported(document))
                        comma = b",\n"
            yield b"]}"

    def _batch_of(self, condition: Document, session: ClientSession) -> int:
        """By the size of the newest ones: a reply may have 16 MB, of which memory would hold several copies."""
        stages: list[Document] = [{"$match": condition}, {"$sort": dict(NEWEST_FIRST)}, {"$limit": _BATCH}]
        stages.append({"$group": {"_id": None, "size": {"$avg": {"$bsonSize": "$$ROOT"}}}})
        (found,) = [*self._snapshots.aggregate(stages, session=session)] or [{"size": _BATCH_BYTES}]
        return min(max(int(_BATCH_BYTES / found["size"]), 2), _MOST_IN_A_BATCH)


def _exported(snapshot: Document) -> Document:
    """A snapshot as training data: the platform's side is the assistant."""
    messages = snapshot.get("messages")
    # The platform's model is no bar to null, or to anything else, in the place of messages and tags.
    messages = messages if isinstance(messages, list) else []
    return {
        "id": snapshot["_id"],
        "customer": {
            "name": snapshot.get("customerName"),
            "phone": snapshot.get("customerPhone"),
            "email": snapshot.get("customerEmail"),
        },
        "conversation": [_turn(each) for each in messages if isinstance(each, Mapping)],
        "metadata": {
            "quality": snapshot.get("quality"),
            "tags": snapshot.get("tags") or [],
            "category": snapshot.get("category"),
            "messageCount": snapshot.get("messageCount"),
        },
    }


def _turn(message: Mapping[str, Any]) -> Document:
    return {
        "role": "assistant" if message.get("sender") == "user" else "user",
        "content": message.get("content"),
        "timestamp": message.get("timestamp"),
        "senderType": message.get("senderType"),
    }
