"""Whose a request's contact, conversation and messages are: the parents that it names, tenant-checked."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bson import ObjectId

from worker.connections import Connections, Document, store_errors
from worker.errors import ContactNotFound, ConversationNotFound, SnapshotError

Entry = Mapping[str, Any]

_CONTACT_FIELDS = {"organizationId": 1, "firstName": 1, "lastName": 1, "phoneNumber": 1, "email": 1}


@dataclass
class Parents:
    """The contacts and conversations that a chunk names, by `_id`."""

    contacts: dict[ObjectId, Document] = field(default_factory=dict)
    conversations: dict[ObjectId, Document] = field(default_factory=dict)
    lend: bool = False
    """Whether these organizations may have messages that name no contact, only a conversation."""

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


def read_parents(connections: Connections, entries: Iterable[Entry]) -> Parents:
    """The contacts and conversations that entries name, and whether any message of theirs may name no contact."""
    names = connections.settings
    entries = list(entries)
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
    collection = connections.database[names.contacts_collection]
    found = Parents()
    with store_errors():
        for document in collection.aggregate(pipeline, batchSize=len(contacts) + len(named) + 2):
            match document.pop("kind", None):
                case "conversation":
                    found.conversations[document["_id"]] = document
                case "lent":
                    found.lend = True
                case _:
                    found.contacts[document["_id"]] = document
    return found


def belongs(message: Document, contact: ObjectId, theirs: set[ObjectId]) -> bool:
    """Whether a message is the contact's; one that names no contact, through its conversation (`theirs`)."""
    owner = message.get("contactId")
    return owner == contact if owner is not None else message.get("conversationId") in theirs


def _union(collection: str, condition: Document, kind: str, limit: int | None = None) -> Document:
    """A stage that adds another collection's documents, told apart by `kind`."""
    pipeline: list[Document] = [{"$match": condition}, *([{"$limit": limit}] if limit else [])]
    pipeline.append({"$project": {"organizationId": 1, "contactId": 1, "kind": {"$literal": kind}}})
    return {"$unionWith": {"coll": collection, "pipeline": pipeline}}
