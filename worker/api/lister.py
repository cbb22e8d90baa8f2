"""Reads the list and the export of an organization's snapshots, in parts."""

import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from bson import ObjectId
from bson.raw_bson import RawBSONDocument
from pymongo.client_session import ClientSession
from pymongo.collection import Collection
from pymongo.errors import ExecutionTimeout

from worker.api.populate import Populator
from worker.api.queries import NEWEST_FIRST, ExportQuery, ListQuery, cursor_of
from worker.api.responses import SearchTooSlow, encode
from worker.api.streaming import slices
from worker.stores.connections import Connections, Document, store_errors
from worker.stores.mongo_errors import MAX_TIME_EXPIRED

_MAX_SECONDS, _MAX_SEARCH_SECONDS = 10.0, 2.0
"""MongoDB's time limits for a list, and for a list with `q`, which no index serves. They are enforced by the server,
because `pymongo.timeout` would also prolong the search for a server that is down."""
_BATCH = 25
"""How many snapshots MongoDB returns at once for a list."""
_EXPORT_BATCH_BYTES, _MAX_EXPORT_BATCH = 1_000_000, 200
"""How much MongoDB returns at once for an export: about this many bytes, and at most this many snapshots."""


class Lister:
    """Reads the lists and downloads of an organization's snapshots, in parts that are sent while the next one is read.

    Its methods block, so call them in a thread.
    """

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._populate = Populator(connections)

    @property
    def _snapshots(self) -> Collection[Document]:
        return self._connections.database[self._connections.settings.snapshots_collection]

    @property
    def _raw(self) -> Collection[RawBSONDocument]:
        return self._connections.raw_database[self._connections.settings.snapshots_collection]

    def page(self, organization: ObjectId, query: ListQuery) -> Generator[bytes]:
        """Yield the body of a page of the list, in parts that can be sent while the next one is read.

        Args:
            organization: The caller's organization.
            query: The filters, and which page.

        Raises:
            SearchTooSlow: The search in the notes exceeded its time limit; narrow it with more filters.
            StoreUnavailable, StoreConflict: MongoDB cannot be reached or was busy; it is safe to try again.
        """
        condition = query.condition(organization)
        searches = query.q is not None
        seconds = _MAX_SEARCH_SECONDS if searches else _MAX_SECONDS
        started = time.monotonic()
        with store_errors(), _search_limit(searches):
            total = self._snapshots.count_documents(condition, maxTimeMS=int(seconds * 1000))
        if searches:
            seconds = max(seconds - (time.monotonic() - started), 0.001)
        remaining = query.limit
        last: Document | None = None
        yield b'{"success":true,"message":"Training snapshots","data":['
        skipped = 0 if query.after else (query.page - 1) * query.limit
        # The first reply to a search contains the whole page, so that a time limit is exceeded before the answer
        # begins.
        batch = query.limit + 1 if searches else _BATCH
        found = (
            self._raw.find({**condition, **query.after_condition()}, batch_size=batch)
            .sort(NEWEST_FIRST)
            .max_time_ms(max(int(seconds * 1000), 1))
        )
        with store_errors(), _search_limit(searches), found.skip(skipped).limit(query.limit + 1) as cursor:
            for documents in slices(cursor):
                for document in self._populate(organization, documents[:remaining]):
                    yield encode(document) if last is None else b"," + encode(document)
                    last = document
                remaining -= len(documents)
        pagination = {
            "page": query.page,
            "limit": query.limit,
            "total": total,
            "pages": -(-total // query.limit),
            "next": cursor_of(last) if remaining < 0 and last else None,
        }
        yield b'],"pagination":%s}' % encode(pagination)

    def export(self, organization: ObjectId, query: ExportQuery, now: datetime) -> Generator[bytes]:
        """Yield the body of an export of snapshots, in parts, all of them as they were at one moment.

        Args:
            organization: The caller's organization.
            query: The filters.
            now: The time that the body states as `exportDate`.

        Raises:
            StoreUnavailable, StoreConflict: MongoDB cannot be reached or was busy; it is safe to try again.
        """
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
        """Derive the batch size from the newest snapshots' sizes, because memory holds several copies of a reply."""
        stages: list[Document] = [{"$match": condition}, {"$sort": dict(NEWEST_FIRST)}, {"$limit": _BATCH}]
        stages.append({"$group": {"_id": None, "size": {"$avg": {"$bsonSize": "$$ROOT"}}}})
        (average,) = [*self._snapshots.aggregate(stages, session=session)] or [{"size": _EXPORT_BATCH_BYTES}]
        return min(max(int(_EXPORT_BATCH_BYTES / average["size"]), 2), _MAX_EXPORT_BATCH)


@contextmanager
def _search_limit(searches: bool) -> Iterator[None]:
    """Raise SearchTooSlow if the server stops a search because of its time limit."""
    try:
        yield
    except ExecutionTimeout as error:
        if searches and error.code == MAX_TIME_EXPIRED:
            seconds = f"{_MAX_SEARCH_SECONDS:g} s"
            message = f"The search took longer than {seconds}. Narrow it with contactId, conversationId, from or to."
            raise SearchTooSlow(message, errors=[{"field": "q", "message": f"takes longer than {seconds}"}]) from error
        raise


def _exported(snapshot: Document) -> Document:
    """Convert a snapshot to training data, in which the platform's side has the role `assistant`."""
    messages = snapshot.get("messages")
    # The platform's model permits null, or anything else, as messages and tags.
    messages = messages if isinstance(messages, list) else []
    return {
        "id": snapshot["_id"],
        "customer": {
            "name": snapshot.get("customerName"),
            "phone": snapshot.get("customerPhone"),
            "email": snapshot.get("customerEmail"),
        },
        "conversation": [_transcript_line(message) for message in messages if isinstance(message, Mapping)],
        "metadata": {
            "quality": snapshot.get("quality"),
            "tags": snapshot.get("tags") or [],
            "category": snapshot.get("category"),
            "messageCount": snapshot.get("messageCount"),
        },
    }


def _transcript_line(message: Mapping[str, Any]) -> Document:
    return {
        "role": "assistant" if message.get("sender") == "user" else "user",
        "content": message.get("content"),
        "timestamp": message.get("timestamp"),
        "senderType": message.get("senderType"),
    }
