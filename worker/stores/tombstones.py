"""Tombstones: which contacts were erased, as keyed hashes without personal data.

Each request is checked twice: before it is accepted, and again when a worker reads its conversation, before its
outcome is decided. A check looks up a few short keys. It is never skipped, even if no tombstone is known yet, because
another process may have just written the first one.
"""

import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from bson import ObjectId
from pymongo import UpdateOne
from pymongo.client_session import ClientSession
from pymongo.collection import Collection

from worker.errors import ErasureKeyDiffers
from worker.stores.connections import Connections, Document, store_errors

Person = tuple[ObjectId, ObjectId]
"""Organization and contact."""

KEY_MARK = "key"
"""The `_id` of the document that holds the fingerprint of the key. Every check reads it: a process with another key,
whose hashes would match no tombstone, then refuses to work instead of accepting erased contacts."""

FIELDS: Document = {"liftedAt": 1, "fingerprint": 1}
"""The fields that a check reads of each document."""


@dataclass(frozen=True, slots=True)
class Lookup:
    """One check of some people, which may be a part of another read."""

    by_hash: Mapping[str, Person]
    """The people by the `_id` that their tombstones have."""
    fingerprint: str
    """The fingerprint of this process's key."""

    @property
    def size(self) -> int:
        """The number of people."""
        return len(self.by_hash)

    @property
    def condition(self) -> Document:
        """The MongoDB filter for their tombstones and for the document with the key's fingerprint."""
        return {"_id": {"$in": [KEY_MARK, *self.by_hash]}}

    def erased(self, found: Iterable[Document]) -> set[Person]:
        """Return the erased people, from the `FIELDS` of all documents that match. Raises ErasureKeyDiffers."""
        erased: set[Person] = set()
        for each in found:
            if each["_id"] == KEY_MARK:
                if each["fingerprint"] != self.fingerprint:
                    raise ErasureKeyDiffers
            elif "liftedAt" not in each:
                erased.add(self.by_hash[each["_id"]])
        return erased


class Tombstones:
    """The collection of tombstones. A lifted tombstone stays as a record, and has no effect."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        key = connections.settings.erasure_key
        self._secret = key.get_secret_value().encode() if key else b""

    @property
    def collection(self) -> Collection[Document]:
        """The collection `snapshoterasures`."""
        return self._connections.database[self._connections.settings.erasures_collection]

    @property
    def fingerprint(self) -> str:
        """A hash that identifies the key without revealing it."""
        return hmac.digest(self._secret, b"fingerprint", "sha256").hex()[:16]

    def hash(self, person: Person) -> str:
        """Return the `_id` that a person's tombstone has: a keyed hash, in hex."""
        organization, contact = person
        return hmac.digest(self._secret, organization.binary + contact.binary, "sha256").hex()

    def erased(self, people: Iterable[Person], session: ClientSession | None = None) -> set[Person]:
        """Return which of these people were erased. Raises StoreUnavailable, StoreConflict, ErasureKeyDiffers."""
        lookup = self.look_up(people)
        if not lookup.size:
            return set()
        with store_errors():
            return lookup.erased(self.collection.find(lookup.condition, FIELDS, session=session))

    def look_up(self, people: Iterable[Person]) -> "Lookup":
        """Return a lookup, to check in the same read as other documents which of these people were erased."""
        # Hashes of ObjectIds are slow, of text fast.
        return Lookup({self.hash(person): person for person in people}, self.fingerprint)

    def put(self, tombstones: Iterable[Document], session: ClientSession | None = None) -> None:
        """Insert or replace tombstones, durably, and record the key. Raises ErasureKeyDiffers.

        Each document has the `_id` that `hash` returns, `organizationId`, `erasedAt`, `redactMentions` if that was
        requested, and `liftedAt` if it was lifted.
        """
        mark: Any = {"$setOnInsert": {"fingerprint": self.fingerprint}}
        changes = [UpdateOne({"_id": KEY_MARK}, mark, upsert=True)]
        for each in tombstones:
            replaced: Any = [{"$replaceWith": {"$literal": each}}]
            changes.append(UpdateOne({"_id": each["_id"]}, replaced, upsert=True))
        with store_errors():
            self.collection.bulk_write(changes, session=session)
            found = self.collection.find_one({"_id": KEY_MARK}, session=session)
        if found is None or found["fingerprint"] != self.fingerprint:
            raise ErasureKeyDiffers
