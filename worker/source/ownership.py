"""Whose a request's contact, conversation and messages are: the parents that it names, tenant-checked."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import bson
from bson import ObjectId
from bson.raw_bson import RawBSONDocument

from worker.errors import ContactNotFound, ConversationNotFound, SnapshotError
from worker.source.message_pipeline import is_group
from worker.stores.connections import PLAIN, Connections, Document, store_errors

Entry = Mapping[str, Any]

_CONTACT_FIELDS = {"organizationId": 1, "firstName": 1, "lastName": 1, "phoneNumber": 1, "email": 1}


@dataclass
class Parents:
    """The contacts and conversations that a chunk names, by `_id`."""

    contacts: dict[ObjectId, Document] = field(default_factory=dict)
    conversations: dict[ObjectId, Document] = field(default_factory=dict)
    lend: bool = False
    """Whether these organizations may have messages that name no contact, only a conversation."""

    def add(self, document: Document) -> None:
        """One of those that `_union` marks, else a contact."""
        match document.pop("kind", None):
            case "conversation":
                self.conversations[document["_id"]] = document
            case "lent":
                self.lend = True
            case _ if isinstance(document["_id"], ObjectId):
                self.contacts[document["_id"]] = document
            case _:
                pass  # a group of messages whose owner is an array, say, and so no one that anyone asked for

    def check(self, entry: Entry) -> SnapshotError | None:
        """Whether the entry's contact and conversation are there and its organization's."""
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


def read_parents(connections: Connections, entries: Sequence[Entry]) -> Parents:
    """The contacts and conversations that entries name, and whether any message of theirs may name no contact."""
    parents, _ = read_parents_and(connections, entries)
    return parents


def read_parents_and(
    connections: Connections, entries: Sequence[Entry], groups: Document | None = None, most: int = 0
) -> tuple[Parents, Iterator[RawBSONDocument]]:
    """The parents, and behind them in the same round trip, not decoded, what the stage `groups` adds.

    `groups`: see `message_pipeline`. `most`: how many of them. Raises StoreUnavailable, StoreConflict,
    SnapshotTooLarge, also from the iterator.
    """
    documents = _read(connections, entries, groups, most)
    parents = Parents()
    for document in documents:
        if is_group(document):
            return parents, chain([document], documents)
        parents.add(bson.decode(document.raw, PLAIN))
    return parents, iter(())


def _read(
    connections: Connections, entries: Sequence[Entry], groups: Document | None, most: int
) -> Iterator[RawBSONDocument]:
    names = connections.settings
    organizations = {"organizationId": {"$in": list({entry["organizationId"] for entry in entries})}}
    contacts = list({entry["contactId"] for entry in entries})
    named = list({entry["conversationId"] for entry in entries if entry.get("conversationId")})
    pipeline: list[Document] = [
        {"$match": {"_id": {"$in": contacts}, **organizations}},
        {"$project": _CONTACT_FIELDS},
    ]
    if named:
        pipeline.append(_union(names.conversations_collection, {"_id": {"$in": named}}, "conversation"))
    if any(not entry.get("conversationId") and not entry.get("messageIds") for entry in entries):
        pipeline.append(_union(names.messages_collection, {**organizations, "contactId": None}, "lent", limit=1))
    if groups:
        pipeline.append(groups)
    collection = connections.raw_database[names.contacts_collection]
    in_a_batch = len(contacts) + len(named) + most + 2
    with store_errors(), collection.aggregate(pipeline, batchSize=in_a_batch, allowDiskUse=True) as cursor:
        yield from cursor


def belongs(message: Document, contact: ObjectId, theirs: set[ObjectId]) -> bool:
    """Whether a message is the contact's; one that names no contact, through its conversation (`theirs`)."""
    owner, conversation = message.get("contactId"), message.get("conversationId")
    return owner == contact if owner is not None else isinstance(conversation, ObjectId) and conversation in theirs


def _union(collection: str, condition: Document, kind: str, limit: int | None = None) -> Document:
    """A stage that adds another collection's documents, told apart by `kind`."""
    pipeline: list[Document] = [{"$match": condition}, *([{"$limit": limit}] if limit else [])]
    pipeline.append({"$project": {"organizationId": 1, "contactId": 1, "kind": {"$literal": kind}}})
    return {"$unionWith": {"coll": collection, "pipeline": pipeline}}
