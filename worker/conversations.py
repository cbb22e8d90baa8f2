"""Reads the platform's collections: contacts, conversations, messages, tenant-checked.

A chunk costs two reads whatever its size: the parents (contacts and conversations), then the messages,
which the server shapes, sorts and groups, so that they arrive as the bytes a snapshot stores. What the
server's shape does not fit (see `shaping`) is read again, alone, and shaped here.
"""

import struct
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from bson import DatetimeMS, ObjectId
from bson.raw_bson import RawBSONDocument

from worker.assembly import LARGEST, Conversation, Messages, encode_messages
from worker.connections import PLAIN, Connections, Document, store_errors
from worker.errors import (
    ContactNotFound,
    ConversationNotFound,
    MessagesNotFound,
    ParentNotYetThere,
    SnapshotError,
    SnapshotTooLarge,
)
from worker.shaping import SERVER_REGULAR, SERVER_SHAPE

Entry = Mapping[str, Any]
Fetched = tuple[Entry, Conversation | SnapshotError]

_IDS_A_READ = 20_000
"""Message ids that one read names at most: 12 bytes each and a key, far below a command's 48 MB."""
_NAMED = 1000
"""Missing ids that an error names at most."""
_CONTACT_FIELDS = {"organizationId": 1, "firstName": 1, "lastName": 1, "phoneNumber": 1, "email": 1}
_MESSAGE_FIELDS = dict.fromkeys(
    (
        *("organizationId", "contactId", "conversationId", "content", "sender", "senderType"),
        *("timestamp", "createdAt", "direction", "isAIGenerated"),
    ),
    1,
)

# What `$group` below gives, byte by byte: every element before `messages` has a fixed size.
_GROUP = struct.Struct("<i 5s12s 7si 11sq 9sq 5si 10s")
_GROUP_NAMES = (b"\x07_id\x00", b"\x10count\x00", b"\x09startedAt\x00", b"\x09endedAt\x00", b"\x10odd\x00")
_GROUP_MESSAGES = b"\x04messages\x00"


@dataclass
class Parents:
    """The contacts and conversations that a chunk names, by `_id`."""

    contacts: dict[ObjectId, Document] = field(default_factory=dict)
    conversations: dict[ObjectId, Document] = field(default_factory=dict)

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

    def conversations_of(self, contacts: Collection[ObjectId]) -> dict[ObjectId, ObjectId]:
        """Conversation → contact, of these contacts."""
        pairs = ((key, each.get("contactId")) for key, each in self.conversations.items())
        return {key: contact for key, contact in pairs if contact is not None and contact in contacts}


class Conversations:
    """The platform's side, only read."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._names = connections.settings

    def fetch(self, entries: Iterable[Entry]) -> Iterator[Fetched]:
        """Each entry with its conversation, or with the error that it fails with, as they arrive.

        ContactNotFound and ConversationNotFound are what there is now; whether to wait is the caller's choice.
        Raises StoreUnavailable, StoreConflict.
        """
        entries = list(entries)
        parents = self.parents(entries)
        by_ids: list[Entry] = []
        by_conversation: dict[ObjectId, list[Entry]] = defaultdict(list)
        by_contact: dict[ObjectId, list[Entry]] = defaultdict(list)
        for entry in entries:
            if fault := parents.check(entry):
                yield entry, fault
            elif entry.get("messageIds"):
                by_ids.append(entry)
            elif entry.get("conversationId"):
                by_conversation[entry["conversationId"]].append(entry)
            else:
                by_contact[entry["contactId"]].append(entry)
        for entry in by_ids:
            yield entry, self._named(entry, parents)
        yield from self._grouped("conversationId", by_conversation, parents)
        yield from self._grouped("contactId", by_contact, parents)

    def parents(self, entries: Iterable[Entry]) -> Parents:
        """Contacts and conversations of the entries, and the conversations of those that ask for all of a contact's."""
        entries = list(entries)
        organizations = list({entry["organizationId"] for entry in entries})
        contacts = list({entry["contactId"] for entry in entries})
        named = list({entry["conversationId"] for entry in entries if entry.get("conversationId")})
        whole = list({each["contactId"] for each in entries if not each.get("conversationId")})
        wanted: list[Document] = []
        if named:
            wanted.append({"_id": {"$in": named}})
        if whole:
            wanted.append({"organizationId": {"$in": organizations}, "contactId": {"$in": whole}})
        pipeline: list[Document] = [
            {"$match": {"_id": {"$in": contacts}, "organizationId": {"$in": organizations}}},
            {"$project": _CONTACT_FIELDS},
            {
                "$unionWith": {
                    "coll": self._names.conversations_collection,
                    "pipeline": [
                        {"$match": {"$or": wanted} if len(wanted) > 1 else wanted[0]},
                        {"$project": {"organizationId": 1, "contactId": 1, "conversation": {"$literal": True}}},
                    ],
                }
            },
        ]
        collection = self._connections.database[self._names.contacts_collection]
        found = Parents()
        with store_errors():
            for document in collection.aggregate(pipeline, batchSize=1 + len(contacts) + 2 * len(entries)):
                kept = found.conversations if document.pop("conversation", None) else found.contacts
                kept[document["_id"]] = document
        return found

    # --- all of a conversation's, all of a contact's --------------------------------------------------

    def _grouped(self, key: str, wanted: dict[ObjectId, list[Entry]], parents: Parents) -> Iterator[Fetched]:
        if not wanted:
            return
        left = dict(wanted)
        try:
            for group in self._aggregate(key, wanted, parents):
                if (found := _read_group(group)) is None:
                    continue  # odd: its owner stays in `left` and is read alone
                for entry in left.pop(found[0]):
                    yield entry, Conversation(parents.contacts[entry["contactId"]], found[1])
        except SnapshotTooLarge:
            pass  # one conversation beyond 16 MiB breaks the aggregation; those left are read alone
        for owner, entries in left.items():
            condition = _condition(
                key, {owner: entries}, parents.conversations_of([owner]) if key == "contactId" else {}
            )
            messages = self._alone(condition)
            for entry in entries:
                found_one = (
                    messages
                    if isinstance(messages, SnapshotError)
                    else Conversation(parents.contacts[entry["contactId"]], messages)
                )
                yield entry, found_one

    def _aggregate(self, key: str, wanted: dict[ObjectId, list[Entry]], parents: Parents) -> Iterator[RawBSONDocument]:
        owner: Any = f"${key}"
        theirs = parents.conversations_of(wanted) if key == "contactId" else {}
        if theirs:
            place = {"$indexOfArray": [{"$literal": list(theirs)}, "$conversationId"]}
            owner = {"$ifNull": [owner, {"$arrayElemAt": [{"$literal": list(theirs.values())}, place]}]}
        pipeline = [
            {"$match": _condition(key, wanted, theirs)},
            {"$project": {"c": owner, "m": SERVER_SHAPE}},
            {"$sort": {"c": 1, "m.timestamp": 1, "_id": 1}},
            {
                "$group": {
                    "_id": "$c",
                    "count": {"$sum": 1},
                    "startedAt": {"$first": "$m.timestamp"},
                    "endedAt": {"$last": "$m.timestamp"},
                    "odd": {"$sum": {"$cond": [SERVER_REGULAR, 0, 1]}},
                    "messages": {"$push": "$m"},
                }
            },
        ]
        collection = self._connections.raw_database[self._names.messages_collection]
        with store_errors(), collection.aggregate(pipeline, batchSize=len(wanted) + 1, allowDiskUse=True) as cursor:
            yield from cursor

    def _alone(self, condition: Document) -> Messages | SnapshotError | None:
        """One conversation's messages, shaped here; bounded, since text beyond 16 MiB is no snapshot."""
        collection = self._connections.database[self._names.messages_collection].with_options(codec_options=PLAIN)
        found: list[Document] = []
        size = 0
        with store_errors(), collection.find(condition, _MESSAGE_FIELDS) as cursor:
            for message in cursor:
                found.append(message)
                content = message.get("content")
                size += len(content) if isinstance(content, str) else 0
                if size > LARGEST:
                    return SnapshotTooLarge(limit=LARGEST)
        return encode_messages(found)

    # --- exactly those named --------------------------------------------------------------------------

    def _named(self, entry: Entry, parents: Parents) -> Conversation | SnapshotError:
        ids: list[ObjectId] = entry["messageIds"]
        collection = self._connections.database[self._names.messages_collection].with_options(codec_options=PLAIN)
        found: list[Document] = []
        with store_errors():
            for first in range(0, len(ids), _IDS_A_READ):
                condition = {
                    "_id": {"$in": ids[first : first + _IDS_A_READ]},
                    "organizationId": entry["organizationId"],
                }
                found += collection.find(condition, _MESSAGE_FIELDS)
        theirs = self._conversations_of(entry, found)
        kept = [each for each in found if _belongs(each, entry["contactId"], theirs)]
        if len(kept) < len(ids):
            there = {each["_id"] for each in kept}
            missing = [str(each) for each in ids if each not in there]
            return MessagesNotFound(missing=missing[:_NAMED], missingCount=len(missing))
        return Conversation(parents.contacts[entry["contactId"]], encode_messages(kept))

    def _conversations_of(self, entry: Entry, messages: list[Document]) -> set[ObjectId]:
        """Those of the contact's conversations that messages without a `contactId` name."""
        named = {each.get("conversationId") for each in messages if each.get("contactId") is None} - {None}
        if not named:
            return set()
        condition = {
            "_id": {"$in": list(named)},
            "organizationId": entry["organizationId"],
            "contactId": entry["contactId"],
        }
        with store_errors():
            found = self._connections.database[self._names.conversations_collection].find(condition, {"_id": 1})
            return {each["_id"] for each in found}


def _condition(key: str, wanted: Mapping[ObjectId, list[Entry]], theirs: Mapping[ObjectId, ObjectId]) -> Document:
    """Messages carry `conversationId` or `contactId` or both; a contact's may carry the former only (`theirs`).

    A branch for each organization, so that a message of one is never another's, whatever ids it carries.
    """
    by_organization: dict[ObjectId, set[ObjectId]] = defaultdict(set)
    for owner, entries in wanted.items():
        by_organization[entries[0]["organizationId"]].add(owner)
    branches: list[Document] = []
    for organization, owners in by_organization.items():
        branches.append({"organizationId": organization, key: {"$in": list(owners)}})
        lent = [conversation for conversation, contact in theirs.items() if contact in owners]
        if lent:
            branches.append({"organizationId": organization, "conversationId": {"$in": lent}, "contactId": None})
    return branches[0] if len(branches) == 1 else {"$or": branches}


def _belongs(message: Document, contact: ObjectId, theirs: set[ObjectId]) -> bool:
    owner = message.get("contactId")
    return owner == contact if owner is not None else message.get("conversationId") in theirs


def _read_group(group: RawBSONDocument) -> tuple[ObjectId, Messages] | None:
    """Owner and messages of one group; None where a message in it is odd, so that it must be shaped here."""
    raw = group.raw
    if len(raw) < _GROUP.size:
        return None
    (_, *pairs, last) = _GROUP.unpack_from(raw)
    if tuple(pairs[::2]) != _GROUP_NAMES or last != _GROUP_MESSAGES:
        return None
    owner, count, started_at, ended_at, odd = pairs[1::2]
    if odd:
        return None
    return ObjectId(owner), Messages(bytes(raw[_GROUP.size : -1]), count, DatetimeMS(started_at), DatetimeMS(ended_at))


def as_awaited(fault: SnapshotError) -> ParentNotYetThere:
    """The same fault, while its parent document may still come."""
    return ParentNotYetThere(f"{fault.message} It may still come.", awaited=fault.code, **fault.details)
