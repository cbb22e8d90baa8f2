"""Stores batches of imported conversations, each batch in one transaction."""

import random
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from bson import ObjectId
from pymongo.client_session import ClientSession
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError, OperationFailure

from worker.errors import Refused, StoreConflict, StoreUnavailable
from worker.importing.neutral_form import email_key
from worker.importing.source_documents import SourceDocuments
from worker.stores.connections import Connections, Document, store_errors

# A killed import leaves a transaction that blocks its documents until the server ends it, after
# transactionLifetimeLimitSeconds, 60 by default; an election takes about 12 s.
PATIENCE_SECONDS = 90.0
_PAUSE_SECONDS = 0.5
_DUPLICATE_KEY = 11000
_LOOKS_AFTER_DUPLICATES = 3
_INDEX_EXISTS_OTHERWISE = (85, 86)  # IndexOptionsConflict, IndexKeySpecsConflict


class DocumentRefused(Refused):
    """MongoDB refused a document."""

    code = "document_refused"


@dataclass(slots=True)
class Outcome:
    """What became of a batch; `rejected` is reasons by the place in the batch."""

    stored: int = 0
    already_there: int = 0
    contacts: int = 0
    messages: int = 0
    rejected: dict[int, str] = field(default_factory=dict)

    def add(self, other: "Outcome", offset: int) -> None:
        """Count the other one in, whose batch began at `offset` of this one's."""
        self.stored += other.stored
        self.already_there += other.already_there
        self.contacts += other.contacts
        self.messages += other.messages
        self.rejected |= {offset + place: reason for place, reason in other.rejected.items()}


class ImportStore:
    """The platform's collections, as an import of one organization writes them."""

    def __init__(self, connections: Connections, organization_id: ObjectId) -> None:
        self._connections = connections
        self._organization_id = organization_id

    def _collection(self, name: str) -> Collection[Document]:
        return self._connections.database[str(getattr(self._connections.settings, f"{name}_collection"))]

    def prepare(self) -> None:
        """Indexes by which contacts and users are found by e-mail, unless the settings forbid it.

        Raises StoreUnavailable.
        """
        if not self._connections.settings.create_source_indexes:
            return
        for name in ("contacts", "users"):
            with store_errors():
                try:
                    self._collection(name).create_index([("organizationId", 1), ("email", 1)])
                except OperationFailure as error:
                    # The platform has it under another name or with other options, which serve as well.
                    if error.code not in _INDEX_EXISTS_OTHERWISE:
                        raise

    def store(self, batch: Sequence[SourceDocuments]) -> Outcome:
        """Store what is not there yet; a conversation whose documents MongoDB refuses is rejected alone.

        Raises StoreUnavailable or StoreConflict if the store does not take it for 90 s.
        """
        try:
            return self._store_patiently(batch)
        except DocumentRefused as error:
            if len(batch) == 1:
                return Outcome(rejected={0: error.message})
        outcome = Outcome()
        for offset, each in enumerate(batch):
            outcome.add(self.store([each]), offset)
        return outcome

    def _store_patiently(self, batch: Sequence[SourceDocuments]) -> Outcome:
        deadline = time.monotonic() + PATIENCE_SECONDS
        looks = 0
        while True:
            try:
                with self._connections.transaction() as session:
                    return self._write(batch, session)
            except DocumentRefused as error:
                # Another import may have stored the document in between: then it is seen on the next look.
                looks += 1
                if error.details.get("mongo_code") != _DUPLICATE_KEY or looks >= _LOOKS_AFTER_DUPLICATES:
                    raise
            except (StoreConflict, StoreUnavailable):
                if time.monotonic() > deadline:
                    raise
                time.sleep(_PAUSE_SECONDS * random.uniform(0.2, 1))

    def _write(self, batch: Sequence[SourceDocuments], session: ClientSession) -> Outcome:
        outcome = Outcome()
        new = self._missing(batch, outcome, session)
        if not new:
            return outcome
        contact_ids, outcome.contacts = self._settle("contacts", (each.contact for each in new), session)
        user_ids, _ = self._settle("users", (each.user for each in new if each.user), session)
        messages: list[Document] = []
        conversations: list[Document] = []
        for each in new:
            contact_id = contact_ids[each.contact["_id"]]
            messages += each.messages(contact_id)
            conversations.append(each.resolved(contact_id, user_ids[each.user["_id"]] if each.user else None))
        self._insert("messages", messages, session)
        self._insert("conversations", conversations, session)
        outcome.stored, outcome.messages = len(new), len(messages)
        return outcome

    def _missing(
        self, batch: Sequence[SourceDocuments], outcome: Outcome, session: ClientSession
    ) -> list[SourceDocuments]:
        wanted = [each.conversation_id for each in batch]
        found = self._collection("conversations").find({"_id": {"$in": wanted}}, {"importHash": 1}, session=session)
        hashes = {each["_id"]: each.get("importHash") for each in found}
        missing = []
        for place, each in enumerate(batch):
            if each.conversation_id not in hashes:
                hashes[each.conversation_id] = each.content_hash
                missing.append(each)
            elif hashes[each.conversation_id] == each.content_hash:
                outcome.already_there += 1
            else:
                outcome.rejected[place] = "conversation.ref: is already there with another contact or other messages"
        return missing

    def _settle(
        self, name: str, people: Iterable[Document], session: ClientSession
    ) -> tuple[dict[ObjectId, ObjectId], int]:
        """The `_id` in the collection for each person's own, and how many had to be inserted.

        A person of the organization with the same e-mail, as given or in lower case, is taken instead.
        """
        wanted: dict[ObjectId, Document] = {}
        for each in people:
            wanted.setdefault(each["_id"], each)
        keys = {own: email_key(each.get("email")) for own, each in wanted.items()}
        emails = {each["email"] for each in wanted.values() if "email" in each} | set(keys.values()) - {None}
        branches: list[dict[str, Any]] = [
            {"_id": {"$in": list(wanted)}},
            {"organizationId": self._organization_id, "email": {"$in": list(emails)}},
        ]
        there: set[ObjectId] = set()
        by_email: dict[str | None, ObjectId] = {}
        for each in self._collection(name).find({"$or": branches}, {"email": 1}, session=session).sort("_id", 1):
            there.add(each["_id"])
            by_email.setdefault(email_key(each.get("email")), each["_id"])
        by_email.pop(None, None)
        ids = {own: own if own in there else by_email.get(key, own) for own, key in keys.items()}
        absent = [each for own, each in wanted.items() if ids[own] == own and own not in there]
        self._insert(name, absent, session)
        return ids, len(absent)

    def _insert(self, name: str, documents: list[Document], session: ClientSession) -> None:
        if not documents:
            return
        try:
            self._collection(name).insert_many(documents, session=session)
        except BulkWriteError as error:
            fault = error.details["writeErrors"][0]
            raise DocumentRefused(_reason(name, fault), mongo_code=fault["code"]) from error


def _reason(name: str, fault: dict[str, Any]) -> str:
    """Without the values: `errmsg` and `keyValue` have them."""
    if fault["code"] == _DUPLICATE_KEY:
        fields = ", ".join(fault.get("keyPattern", {}))
        return f"{name}: another document has the same {fields or 'key'} (E11000)"
    return f"{name}: MongoDB refused the document (code {fault['code']})"
