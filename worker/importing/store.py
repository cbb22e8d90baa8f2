"""Stores batches of imported conversations, each batch in one transaction."""

import random
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bson import ObjectId
from pymongo.client_session import ClientSession
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError, OperationFailure

from worker.domain.source_fields import CollectionFields
from worker.errors import ContactErased, Refused, StoreConflict, StoreUnavailable
from worker.importing.neutral_form import email_key
from worker.importing.source_documents import SourceDocuments
from worker.stores.connections import Connections, Document, store_errors
from worker.stores.tombstones import Tombstones

# The transaction of a killed import blocks its documents until the server aborts it, after
# transactionLifetimeLimitSeconds (60 by default); an election takes about 12 s.
RETRY_SECONDS = 90.0
_PAUSE_SECONDS = 0.5
_DUPLICATE_KEY = 11000
_ATTEMPTS_AFTER_DUPLICATES = 3
_INDEX_CONFLICTS = (85, 86)  # IndexOptionsConflict, IndexKeySpecsConflict


class DocumentRefused(Refused):
    """MongoDB refused a document."""

    code = "document_refused"


@dataclass(slots=True)
class WriteResult:
    """The counts of a batch. `rejected`: reasons by position in the batch."""

    stored: int = 0
    already_there: int = 0
    contacts: int = 0
    messages: int = 0
    rejected: dict[int, str] = field(default_factory=dict)

    def add(self, other: "WriteResult", offset: int) -> None:
        """Add the counts of another batch that began at `offset` of this one."""
        self.stored += other.stored
        self.already_there += other.already_there
        self.contacts += other.contacts
        self.messages += other.messages
        self.rejected |= {offset + place: reason for place, reason in other.rejected.items()}


class ImportStore:
    """Writes the platform's collections for an import of one organization."""

    def __init__(self, connections: Connections, organization_id: ObjectId) -> None:
        self._connections = connections
        self._organization_id = organization_id
        self._tombstones = Tombstones(connections)
        self._conflicts = 0
        """How many conversations in a row could not be stored because of conflicts."""
        fields = connections.fields
        self._fields: Mapping[str, CollectionFields] = {
            "contacts": fields.contact,
            "users": fields.user,
            "conversations": fields.conversation,
            "messages": fields.message,
        }

    def _collection(self, name: str) -> Collection[Document]:
        return self._connections.database[str(getattr(self._connections.settings, f"{name}_collection"))]

    def prepare(self) -> None:
        """Create the indexes that find contacts and users by e-mail, unless the settings forbid it.

        Raises StoreUnavailable.
        """
        if not self._connections.settings.create_source_indexes:
            return
        for name in ("contacts", "users"):
            keys = [(self._fields[name][key], 1) for key in ("organizationId", "email")]
            with store_errors():
                try:
                    self._collection(name).create_index(keys)
                except OperationFailure as error:
                    # The platform has the index under another name or with other options, which serves as well.
                    if error.code not in _INDEX_CONFLICTS:
                        raise

    def store(self, batch: Sequence[SourceDocuments]) -> WriteResult:
        """Store the new conversations of a batch. If MongoDB refuses one, only that conversation is rejected.

        Raises StoreUnavailable, or StoreConflict for the second conversation in a row, after trying for 90 s.
        """
        try:
            return self._store_with_retries(batch)
        except DocumentRefused as error:
            self._conflicts = 0
            if len(batch) == 1:
                return WriteResult(rejected={0: error.message})
        except StoreConflict as error:
            if len(batch) == 1:
                self._conflicts += 1
                if self._conflicts > 1:
                    raise  # not because of this conversation
                # It may take longer than a transaction may.
                return WriteResult(rejected={0: f"not stored within {RETRY_SECONDS:g} s: {error.message}"})
        result = WriteResult()
        for offset, documents in enumerate(batch):
            result.add(self.store([documents]), offset)
        return result

    def _store_with_retries(self, batch: Sequence[SourceDocuments]) -> WriteResult:
        deadline = time.monotonic() + RETRY_SECONDS
        attempts = 0
        while True:
            try:
                with self._connections.transaction() as session:
                    result = self._write(batch, session)
                self._conflicts = 0
                return result
            except DocumentRefused as error:
                # Another import may have stored the document in the meantime; the next attempt will see it.
                attempts += 1
                if error.details.get("mongo_code") != _DUPLICATE_KEY or attempts >= _ATTEMPTS_AFTER_DUPLICATES:
                    raise
            except (StoreConflict, StoreUnavailable):
                if time.monotonic() > deadline:
                    raise
                time.sleep(_PAUSE_SECONDS * random.uniform(0.2, 1))

    def _write(self, batch: Sequence[SourceDocuments], session: ClientSession) -> WriteResult:
        result = WriteResult()
        new = self._new_conversations(batch, result, session)
        if not new:
            return result
        contact_ids, result.contacts = self._find_or_insert("contacts", (own.contact for own in new), session)
        people = {(self._organization_id, contact) for contact in contact_ids.values()}
        if self._tombstones.erased(people, session):
            raise DocumentRefused(f"contacts: {ContactErased.__doc__} ({ContactErased.code})")
        user_ids, _ = self._find_or_insert("users", (own.user for own in new if own.user), session)
        messages: list[Document] = []
        conversations: list[Document] = []
        for own in new:
            contact_id = contact_ids[own.contact["_id"]]
            messages += own.messages(contact_id)
            conversations.append(own.resolved(contact_id, user_ids[own.user["_id"]] if own.user else None))
        self._insert("messages", messages, session)
        self._insert("conversations", conversations, session)
        result.stored, result.messages = len(new), len(messages)
        return result

    def _new_conversations(
        self, batch: Sequence[SourceDocuments], result: WriteResult, session: ClientSession
    ) -> list[SourceDocuments]:
        ids = [own.conversation_id for own in batch]
        found = self._collection("conversations").find({"_id": {"$in": ids}}, {"importHash": 1}, session=session)
        hashes = {document["_id"]: document.get("importHash") for document in found}
        new = []
        for place, own in enumerate(batch):
            if own.conversation_id not in hashes:
                hashes[own.conversation_id] = own.content_hash
                new.append(own)
            elif hashes[own.conversation_id] == own.content_hash:
                result.already_there += 1
            else:
                result.rejected[place] = "conversation.ref: is already stored with another contact or other messages"
        return new

    def _find_or_insert(
        self, name: str, people: Iterable[Document], session: ClientSession
    ) -> tuple[dict[ObjectId, ObjectId], int]:
        """Return for each person's own `_id` the one in the collection, and how many people were inserted.

        A person of the organization with the same e-mail, as given or in lower case, is used instead of a new one.
        """
        wanted: dict[ObjectId, Document] = {}
        for person in people:
            wanted.setdefault(person["_id"], person)
        keys = {own: email_key(person.get("email")) for own, person in wanted.items()}
        emails = {person["email"] for person in wanted.values() if "email" in person} | set(keys.values()) - {None}
        fields = self._fields[name]
        branches: list[dict[str, Any]] = [
            {"_id": {"$in": list(wanted)}},
            {fields["organizationId"]: self._organization_id, fields["email"]: {"$in": list(emails)}},
        ]
        existing: set[ObjectId] = set()
        by_email: dict[str | None, ObjectId] = {}
        projection = fields.projection(["email"])
        for person in self._collection(name).find({"$or": branches}, projection, session=session).sort("_id", 1):
            existing.add(person["_id"])
            by_email.setdefault(email_key(person.get("email")), person["_id"])
        by_email.pop(None, None)
        ids = {own: own if own in existing else by_email.get(key, own) for own, key in keys.items()}
        missing = [person for own, person in wanted.items() if ids[own] == own and own not in existing]
        self._insert(name, missing, session)
        return ids, len(missing)

    def _insert(self, name: str, documents: list[Document], session: ClientSession) -> None:
        if not documents:
            return
        try:
            stored = [self._fields[name].stored(document) for document in documents]
            self._collection(name).insert_many(stored, session=session)
        except BulkWriteError as error:
            fault = error.details["writeErrors"][0]
            raise DocumentRefused(_reason(name, fault), mongo_code=fault["code"]) from error


def _reason(name: str, fault: dict[str, Any]) -> str:
    """Return the reason without values, which `errmsg` and `keyValue` contain."""
    if fault["code"] == _DUPLICATE_KEY:
        fields = ", ".join(fault.get("keyPattern", {}))
        return f"{name}: another document has the same {fields or 'key'} (E11000)"
    return f"{name}: MongoDB refused the document (code {fault['code']})"
