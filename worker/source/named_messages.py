"""Reads exactly the messages that a request names."""

from collections.abc import Iterator, Sequence

from bson import ObjectId

from worker.domain.assembly import Messages
from worker.domain.ledger_entry import LedgerEntry
from worker.errors import MessagesNotFound, SnapshotTooLarge
from worker.source.ids import StoredId, read_id, stored_forms, text_forms
from worker.source.ownership import belongs
from worker.source.single import encode, message_fields, read_bounded
from worker.stores.connections import PLAIN, Connections, Document, store_errors

_IDS_PER_READ = 20_000
"""Message ids in one read: 12 bytes each and a key, far below a command's 48 MB."""
_MAX_MISSING = 1000
"""Maximum number of missing ids that an error contains."""


def read_named(connections: Connections, entry: LedgerEntry) -> Messages | MessagesNotFound | SnapshotTooLarge | None:
    """Return the messages that an entry names, or the error if one is missing or belongs to another contact.

    Raises StoreUnavailable, StoreConflict.
    """
    ids = entry["messageIds"]
    found = read_bounded(_documents(connections, entry, ids))
    if isinstance(found, SnapshotTooLarge):
        return found
    conversations = _conversations_of(connections, entry, found)
    own = [message for message in found if belongs(message, entry["contactId"], conversations)]
    if len(own) < len(ids):
        present = {read_id(message["_id"]) for message in own}
        missing = [str(key) for key in ids if key not in present]
        return MessagesNotFound(missing=missing[:_MAX_MISSING], missingCount=len(missing))
    return encode(connections.fields, own)


def _documents(connections: Connections, entry: LedgerEntry, ids: Sequence[ObjectId]) -> Iterator[Document]:
    """Yield the messages with these ids, first those whose `_id` is an ObjectId, then those that store it as text."""
    missing = set(ids)
    for message in _find(connections, entry, ids):
        missing.discard(message["_id"])
        yield message
    if missing:
        yield from _find(connections, entry, [text for key in missing for text in text_forms(key)])


def _find(connections: Connections, entry: LedgerEntry, ids: Sequence[StoredId]) -> Iterator[Document]:
    messages = connections.database[connections.settings.messages_collection].with_options(codec_options=PLAIN)
    fields = connections.fields
    organization = {fields.message["organizationId"]: {"$in": stored_forms([entry["organizationId"]])}}
    for first in range(0, len(ids), _IDS_PER_READ):
        condition = {"_id": {"$in": ids[first : first + _IDS_PER_READ]}, **organization}
        with store_errors(), messages.find(condition, message_fields(fields)) as cursor:
            yield from cursor


def _conversations_of(connections: Connections, entry: LedgerEntry, messages: Sequence[Document]) -> set[ObjectId]:
    """Return the ids of the contact's conversations among those named by messages without a `contactId`."""
    keys = {read_id(message.get("conversationId")) for message in messages if message.get("contactId") is None}
    named = [key for key in keys if isinstance(key, ObjectId)]
    if not named:
        return set()
    conversation = connections.fields.conversation
    condition = {
        "_id": {"$in": stored_forms(named)},
        conversation["organizationId"]: {"$in": stored_forms([entry["organizationId"]])},
        conversation["contactId"]: {"$in": stored_forms([entry["contactId"]])},
    }
    with store_errors():
        found = connections.database[connections.settings.conversations_collection].find(condition, {"_id": 1})
        return {read_id(conversation["_id"]) for conversation in found}
