"""The selection of an export: its snapshots with their split, shard and editable fields, frozen at one moment.

Captured messages never change, so this is enough to freeze the whole content. The documents of one slice are written in
one transaction with the job's checkpoint, which a slice that has lost its lease cannot commit.
"""

import re
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bson import Binary, ObjectId
from pymongo.client_session import ClientSession
from pymongo.collection import Collection

from worker.service import Service
from worker.stores.connections import PLAIN, Connections, Document, store_errors

EDITABLE = ("notes", "tags", "quality", "category", "isArchived", "updatedAt", "__v")
"""The fields that may change after the capture, including those that Mongoose changes with every edit."""

NAIVE = PLAIN.with_options(tz_aware=False)
"""Rows are the same without a time zone, which is UTC, and decoding takes half the time."""


@dataclass(frozen=True, slots=True)
class Selected:
    """A selected snapshot: its id, and the fields that an edit could still change, as they were selected."""

    id: ObjectId
    content_hash: str
    size: int
    """Size of its document in bytes."""
    fields: Mapping[str, Any]
    """Its editable fields at the moment of the selection."""

    def apply(self, document: Document) -> Document:
        """Set the document's editable fields to those of the selection, in the document's order, and return it."""
        for name in EDITABLE:
            if name in self.fields:
                document[name] = self.fields[name]
            else:
                document.pop(name, None)
        return document

    @classmethod
    def of(cls, document: Document) -> "Selected":
        """Read an entry of the selection or a projection of a snapshot, which have the same fields."""
        fields = {name: document[name] for name in EDITABLE if name in document}
        content_hash = document.get("contentHash")
        if not (isinstance(content_hash, str) and _HASH.fullmatch(content_hash)):
            content_hash = ""
        return cls(document["_id"], content_hash, document["size"], fields)

    def entry(self) -> Document:
        """Return the entry for the stored selection, which `of` reads again."""
        return {"_id": self.id, "contentHash": self.content_hash, "size": self.size, **self.fields}


def read_selected(service: Service, organization: ObjectId, ids: Sequence[ObjectId]) -> dict[ObjectId, Selected]:
    """Return the current fields of snapshots by id. Raises StoreUnavailable, StoreConflict."""
    which = {"_id": {"$in": list(ids)}, "organizationId": organization}
    projection = {**dict.fromkeys(("contentHash", *EDITABLE), 1), "size": {"$bsonSize": "$$ROOT"}}
    with store_errors():
        return {each["_id"]: Selected.of(each) for each in service.snapshots.collection.find(which, projection)}


class Selection:
    """The stored selection of one job, in documents of a few MB."""

    def __init__(self, connections: Connections, job: ObjectId) -> None:
        self._connections = connections
        self._job = job

    @property
    def collection(self) -> Collection[Document]:
        """The collection `snapshotexports`, which all exports in progress share."""
        return self._connections.database[self._connections.settings.exports_collection]

    def document(self, split: str, shard: int, number: int, entries: list[Selected]) -> Document:
        """Return a document to insert. `number` orders the documents of the job."""
        place = {"job": self._job, "split": split, "shard": shard, "number": number}
        hashes = b"".join(_short(each.content_hash) for each in entries)
        return {**place, "hashes": Binary(hashes), "entries": [each.entry() for each in entries]}

    def shard(self, split: str, shard: int) -> Iterator[list[Selected]]:
        """Yield lists of the snapshots of a shard, in order of `_id`. Raises StoreUnavailable, StoreConflict."""
        which = {"job": self._job, "split": split, "shard": shard}
        collection = self.collection.with_options(NAIVE)
        with store_errors(), collection.find(which, {"entries": 1}, batch_size=2).sort("number", 1) as cursor:
            for document in cursor:
                yield [Selected.of(each) for each in document["entries"]]

    def find(self, ids: Sequence[ObjectId]) -> dict[ObjectId, tuple[ObjectId, Selected]]:
        """Return the given snapshots that are selected, each with the id of the document that holds it.

        Raises StoreUnavailable, StoreConflict.
        """
        wanted: Document = {"entries._id": {"$in": list(ids)}}
        stages: list[Document] = [{"$match": {"job": self._job, **wanted}}, {"$unwind": "$entries"}, {"$match": wanted}]
        with store_errors(), self.collection.with_options(NAIVE).aggregate(stages) as cursor:
            return {each["entries"]["_id"]: (each["_id"], Selected.of(each["entries"])) for each in cursor}

    def replace(self, document: ObjectId, selected: Selected, session: ClientSession) -> None:
        """Replace the entry of a snapshot in a document that `find` has returned."""
        which = {"_id": document, "entries._id": selected.id}
        self.collection.update_one(which, {"$set": {"entries.$": selected.entry()}}, session=session)

    def known_hashes(self) -> set[bytes]:
        """Return the content hashes of all snapshots selected so far. Raises StoreUnavailable, StoreConflict."""
        known: set[bytes] = set()
        with (
            store_errors(),
            self.collection.find({"job": self._job, "hashes": {"$exists": True}}, {"hashes": 1}) as cursor,
        ):
            for document in cursor:
                hashes = bytes(document["hashes"])
                known.update(hashes[place : place + _SHORT] for place in range(0, len(hashes), _SHORT))
        known.discard(bytes(_SHORT))
        return known

    # --- what stratification needs --------------------------------------------------------------------------

    def marks(self, number: int, marks: "array[int]") -> Document:
        """Return a document to insert with these marks (see `Splitter.mark`)."""
        return {"job": self._job, "number": number, "marks": Binary(marks.tobytes())}

    def all_marks(self) -> "array[int]":
        """Return the marks of all snapshots (see `Splitter.mark`). Raises StoreUnavailable, StoreConflict."""
        found = array("Q")
        with store_errors(), self.collection.find({"job": self._job, "marks": {"$exists": True}}) as cursor:
            for document in cursor:
                found.frombytes(document["marks"])
        return found

    def replace_marks(self, moved: Mapping[int, str], session: ClientSession) -> None:
        """Replace the marks by the places of the people whom stratification moves to another split."""
        self.collection.delete_many({"job": self._job, "marks": {"$exists": True}}, session=session)
        for side in sorted(set(moved.values())):
            places = array("Q", (place for place, other in moved.items() if other == side))
            for first in range(0, len(places), _PLACES):
                some = Binary(places[first : first + _PLACES].tobytes())
                document = {"job": self._job, "side": side, "places": some}
                self.collection.insert_one(document, session=session)

    def moved(self) -> dict[int, str]:
        """Return the places and new splits of the people whom stratification moves.

        Raises StoreUnavailable, StoreConflict.
        """
        found: dict[int, str] = {}
        with store_errors(), self.collection.find({"job": self._job, "places": {"$exists": True}}) as cursor:
            for document in cursor:
                found.update((place, document["side"]) for place in array("Q", document["places"]))
        return found

    def remove(self) -> None:
        """Remove the selection. Raises StoreUnavailable, StoreConflict."""
        with store_errors():
            self.collection.delete_many({"job": self._job})


_HASH = re.compile(r"[0-9a-f]{64}", re.ASCII)
"""A content hash as we make it. A platform may have stored other text there, which a list of ids cannot have."""
_PLACES = 1_000_000
"""Maximum number of marks in one document, of 8 bytes each."""
_SHORT = 16
"""Duplicates are recognized by this many bytes of the content hash: half of a SHA-256, which halves the memory."""


def _short(content_hash: str) -> bytes:
    """Return the bytes that are compared. Zeros stand for a missing content hash, which is never a duplicate."""
    try:
        return bytes.fromhex(content_hash)[:_SHORT].ljust(_SHORT, b"\0")
    except ValueError:
        return bytes(_SHORT)


def is_duplicate(known: set[bytes], content_hash: str) -> bool:
    """Return whether snapshots with these messages were seen before, and remember them.

    Args:
        known: The hashes seen so far, as bytes. The new one is added.
        content_hash: The `contentHash` of a snapshot, in hex.
    """
    short = _short(content_hash)
    if not any(short):
        return False
    if short in known:
        return True
    known.add(short)
    return False
