"""Reads the contacts and conversations that requests name, and checks that they belong to the right organization."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import bson
from bson import ObjectId
from bson.raw_bson import RawBSONDocument
from pymongo.read_concern import ReadConcern

from worker.domain.source_fields import CollectionFields
from worker.errors import ContactNotFound, ConversationNotFound, SnapshotError
from worker.source.ids import read_id, stored_forms, text_forms, with_ids
from worker.source.message_pipeline import is_group
from worker.stores.connections import PLAIN, Connections, Document, store_errors
from worker.stores.tombstones import FIELDS, Lookup

RequestFields = Mapping[str, Any]
"""The fields of a request: a ledger entry, or a request that is not accepted yet."""

_CONTACT_FIELDS = ("organizationId", "firstName", "lastName", "phoneNumber", "email")
_OWNER_FIELDS = ("organizationId", "contactId")


@dataclass
class Ownership:
    """The contacts and conversations that a chunk names, by `_id`. Ids stored as text are read as ObjectIds."""

    contacts: dict[ObjectId, Document] = field(default_factory=dict)
    conversations: dict[ObjectId, Document] = field(default_factory=dict)
    tombstones: list[Document] = field(default_factory=list)
    """The tombstones that a `Lookup` found."""
    has_unnamed: bool = False
    """Whether these organizations may have messages that name no contact, only a conversation."""
    has_text_ids: bool = False
    """Whether these organizations have messages whose ids are stored as text."""

    def add(self, document: Document) -> None:
        """Add a document: one that `_union` has marked, or else a contact."""
        kind = document.pop("kind", None)
        if kind == "unnamed":
            self.has_unnamed = True
        elif kind == "tombstone":
            self.tombstones.append(document)
        elif kind == "text":
            self.has_text_ids = True
        elif isinstance(key := read_id(document["_id"]), ObjectId):
            owners = self.conversations if kind == "conversation" else self.contacts
            owners.setdefault(key, with_ids(document, "_id", *_OWNER_FIELDS))
        # Otherwise it is a group of messages whose owner is not an id, so no request names it.

    def check(self, entry: RequestFields) -> SnapshotError | None:
        """Return the error if the entry's contact or conversation is missing or belongs to another organization."""
        organization, contact = entry["organizationId"], entry["contactId"]
        found = self.contacts.get(contact)
        if found is None or found.get("organizationId") != organization:
            return ContactNotFound(contactId=str(contact))
        wanted = entry.get("conversationId")
        if wanted is None:
            return None
        conversation = self.conversations.get(wanted)
        if (
            conversation is None
            or conversation.get("organizationId") != organization
            or conversation.get("contactId") != contact
        ):
            return ConversationNotFound(conversationId=str(wanted))
        return None


def read_parents(connections: Connections, entries: Sequence[RequestFields], lookup: Lookup | None = None) -> Ownership:
    """Read the contacts and conversations that entries name. Raises StoreUnavailable, StoreConflict."""
    parents, _ = read_parents_and(connections, entries, lookup)
    return parents


def read_parents_and(
    connections: Connections,
    entries: Sequence[RequestFields],
    lookup: Lookup | None,
    groups: Document | None = None,
    limit: int = 0,
) -> tuple[Ownership, Iterator[RawBSONDocument]]:
    """Read the parents and, in the same round trip, the tombstones of `lookup` and the documents that the stage
    `groups` adds, which stay encoded.

    `limit`: maximum number of groups. Parents that seem to be missing are looked up once more among documents that
    store ids as text. Raises StoreUnavailable, StoreConflict, SnapshotTooLarge, also from the iterator.
    """
    documents = _read(connections, entries, lookup, groups, limit)
    parents = Ownership()
    rest: Iterator[RawBSONDocument] = iter(())
    for document in documents:
        if is_group(document):
            rest = chain([document], documents)
            break
        parents.add(bson.decode(document.raw, PLAIN))
    if missing := [entry for entry in entries if parents.check(entry)]:
        _add_stored_as_text(connections, missing, parents)
    return parents, rest


def _read(
    connections: Connections,
    entries: Sequence[RequestFields],
    lookup: Lookup | None,
    groups: Document | None,
    limit: int,
) -> Iterator[RawBSONDocument]:
    names = connections.settings
    ids = list({entry["organizationId"] for entry in entries})
    fields = connections.fields
    contacts = list({entry["contactId"] for entry in entries})
    conversations = list({entry["conversationId"] for entry in entries if entry.get("conversationId")})
    pipeline: list[Document] = [
        {"$match": {"_id": {"$in": contacts}, fields.contact["organizationId"]: {"$in": ids}}},
        {"$project": fields.contact.projection(_CONTACT_FIELDS)},
    ]
    if conversations:
        named = {"_id": {"$in": conversations}}
        pipeline.append(_union(names.conversations_collection, named, "conversation", fields.conversation))
    messages, of_message = names.messages_collection, fields.message
    if any(not entry.get("conversationId") and not entry.get("messageIds") for entry in entries):
        unnamed = {of_message["organizationId"]: {"$in": ids}, of_message["contactId"]: None}
        pipeline.append(_union(messages, unnamed, "unnamed", of_message, limit=1))
    if any(not entry.get("messageIds") for entry in entries):
        pipeline.append(_union(messages, _with_text_ids(of_message, ids), "text", of_message, limit=1))
    if lookup:
        found = [{"$match": lookup.condition}, {"$project": {**FIELDS, "kind": {"$literal": "tombstone"}}}]
        pipeline.append({"$unionWith": {"coll": names.erasures_collection, "pipeline": found}})
        limit += lookup.size + 1
    if groups:
        pipeline.append(groups)
    # A run also finds ledger entries that are not at majority yet (`worker.stores.acceptance`). The tombstones that it
    # reads after them must not be older, whatever read concern the URL names.
    collection = connections.raw_database.get_collection(names.contacts_collection, read_concern=ReadConcern("local"))
    batch_size = len(contacts) + len(conversations) + limit + 3
    with store_errors(), collection.aggregate(pipeline, batchSize=batch_size, allowDiskUse=True) as cursor:
        yield from cursor


def _with_text_ids(fields: CollectionFields, organizations: Sequence[ObjectId]) -> Document:
    """Match messages of these organizations that store an owner's id as text.

    Each branch costs one seek in an index.
    """
    organization = fields["organizationId"]
    return {
        "$or": [
            {organization: {"$in": [text for key in organizations for text in text_forms(key)]}},
            {organization: {"$in": organizations}, fields["conversationId"]: {"$type": "string"}},
            {organization: {"$in": organizations}, fields["contactId"]: {"$type": "string"}},
        ]
    }


def _add_stored_as_text(connections: Connections, entries: Sequence[RequestFields], parents: Ownership) -> None:
    names, fields = connections.settings, connections.fields
    conversations = {entry["conversationId"] for entry in entries if entry.get("conversationId")}
    pipeline: list[Document] = [
        {
            "$match": {
                "_id": {"$in": stored_forms({entry["contactId"] for entry in entries})},
                fields.contact["organizationId"]: {"$in": stored_forms({each["organizationId"] for each in entries})},
            }
        },
        {"$project": fields.contact.projection(_CONTACT_FIELDS)},
        _union(
            names.conversations_collection,
            {"_id": {"$in": stored_forms(conversations)}},
            "conversation",
            fields.conversation,
        ),
    ]
    collection = connections.database[names.contacts_collection].with_options(codec_options=PLAIN)
    with store_errors(), collection.aggregate(pipeline) as cursor:
        for document in cursor:
            parents.add(document)


def belongs(message: Document, contact: ObjectId, conversations: set[ObjectId]) -> bool:
    """Return whether a message belongs to the contact. If it names no contact, its conversation decides."""
    owner, conversation = read_id(message.get("contactId")), read_id(message.get("conversationId"))
    return (
        owner == contact if owner is not None else isinstance(conversation, ObjectId) and conversation in conversations
    )


def _union(
    collection: str, condition: Document, kind: str, fields: CollectionFields, limit: int | None = None
) -> Document:
    """Return a stage that adds another collection's documents, marked with `kind`."""
    pipeline: list[Document] = [{"$match": condition}, *([{"$limit": limit}] if limit else [])]
    pipeline.append({"$project": {**fields.projection(_OWNER_FIELDS), "kind": {"$literal": kind}}})
    return {"$unionWith": {"coll": collection, "pipeline": pipeline}}
