"""Checks before a request is accepted: its contact, conversation and messages belong to the organization."""

from collections.abc import Collection, Mapping, Sequence

from bson import ObjectId

from worker.domain.ledger_entry import LedgerEntry
from worker.errors import MessagesNotFound, SnapshotError
from worker.source.ids import read_id, stored_forms
from worker.source.ownership import Ownership, belongs
from worker.stores.connections import Connections, Document, store_errors

_OWNERS = ("organizationId", "contactId", "conversationId")
_IDS_PER_READ = 20_000
_MAX_MISSING = 1000
"""Maximum number of missing message ids that an error contains."""


class RequestChecks:
    """Checks that the contacts, conversations and messages of requests exist and belong to their organization.

    Any number of requests takes a few reads. Call it with ledger entries; it returns for each the error, or None.
    """

    def __init__(self, connections: Connections) -> None:
        self._database = connections.database
        self._names = connections.settings
        self._fields = connections.fields

    def __call__(self, entries: Sequence[LedgerEntry]) -> list[SnapshotError | None]:
        """Return the error in each request's fields, or None. Raises StoreUnavailable, StoreConflict."""
        parents = self._parents(entries)
        faults: list[SnapshotError | None] = [parents.check(entry) for entry in entries]
        with_ids = [
            place
            for place, (entry, fault) in enumerate(zip(entries, faults, strict=True))
            if fault is None and entry.get("messageIds")
        ]
        if with_ids:
            messages = self._messages({key for place in with_ids for key in entries[place]["messageIds"]})
            conversations = self._conversations_of(messages.values())
            for place in with_ids:
                faults[place] = _missing(entries[place], messages, conversations)
        return faults

    def _parents(self, entries: Sequence[LedgerEntry]) -> Ownership:
        """Read the owners of the contacts and conversations that the requests name."""
        organizations = stored_forms({entry["organizationId"] for entry in entries})
        ownership = Ownership()
        of_contact, of_conversation = self._fields.contact, self._fields.conversation
        contacts = {entry["contactId"] for entry in entries}
        conversations = {entry["conversationId"] for entry in entries if entry.get("conversationId")}
        for kind, ids, collection, stored, names in (
            ("contact", contacts, self._names.contacts_collection, of_contact, _OWNERS[:1]),
            ("conversation", conversations, self._names.conversations_collection, of_conversation, _OWNERS[:2]),
        ):
            if wanted := stored_forms(ids):
                condition = {"_id": {"$in": wanted}, stored["organizationId"]: {"$in": organizations}}
                fields = stored.projection(names)
                with store_errors():
                    for document in self._database[collection].find(condition, fields, batch_size=len(wanted) + 1):
                        ownership.add({**document, "kind": kind})
        return ownership

    def _messages(self, wanted: Collection[ObjectId]) -> dict[ObjectId, Document]:
        """Read the owners of messages, by `_id`."""
        ids = stored_forms(wanted)
        collection = self._database[self._names.messages_collection]
        fields = self._fields.message.projection(_OWNERS)
        messages: dict[ObjectId, Document] = {}
        with store_errors():
            for first in range(0, len(ids), _IDS_PER_READ):
                documents = collection.find({"_id": {"$in": ids[first : first + _IDS_PER_READ]}}, fields)
                messages |= {read_id(document["_id"]): document for document in documents}
        return messages

    def _conversations_of(self, messages: Collection[Document]) -> dict[ObjectId, Document]:
        """Read the owners of the conversations of messages that name no contact, by `_id`."""
        keys = (read_id(message.get("conversationId")) for message in messages if message.get("contactId") is None)
        wanted = {key for key in keys if isinstance(key, ObjectId)}
        if not wanted:
            return {}
        collection = self._database[self._names.conversations_collection]
        with store_errors():
            fields = self._fields.conversation.projection(_OWNERS[:2])
            documents = collection.find({"_id": {"$in": stored_forms(wanted)}}, fields)
            return {read_id(document["_id"]): document for document in documents}


def _missing(
    entry: LedgerEntry, messages: Mapping[ObjectId, Document], conversations: Mapping[ObjectId, Document]
) -> MessagesNotFound | None:
    organization, contact = entry["organizationId"], entry["contactId"]
    own = {
        key
        for key, conversation in conversations.items()
        if read_id(conversation.get("organizationId")) == organization
        and read_id(conversation.get("contactId")) == contact
    }
    missing = [
        str(key)
        for key in entry["messageIds"]
        if (message := messages.get(key)) is None
        or read_id(message.get("organizationId")) != organization
        or not belongs(message, contact, own)
    ]
    return MessagesNotFound(missing=missing[:_MAX_MISSING], missingCount=len(missing)) if missing else None
