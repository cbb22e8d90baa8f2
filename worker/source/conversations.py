"""Reads what snapshots are made of: the conversations that requests ask for.

A chunk costs one read whatever its size: the parents (see `ownership`), and behind them the messages, which the server
shapes, sorts and groups, so that they arrive as the bytes a snapshot stores. What the server's shape does not fit (see
`shaping`) is read again, alone, and shaped here. Messages that name no contact cost a contact's request two reads more.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from bson import ObjectId
from bson.raw_bson import RawBSONDocument

from worker.domain.assembly import LARGEST, Conversation, Messages, encode_messages
from worker.errors import MessagesNotFound, ParentNotYetThere, SnapshotError, SnapshotTooLarge
from worker.source.message_pipeline import Stages, in_computed_order, in_index_order, read_group
from worker.source.ownership import Parents, belongs, read_parents, read_parents_and
from worker.stores.connections import PLAIN, Connections, Document, store_errors

Entry = Mapping[str, Any]
Fetched = tuple[Entry, Conversation | SnapshotError]
Groups = Iterator[RawBSONDocument]
"""Of messages, by owner, as `grouping` makes them."""

_OWNERS = ("contactId", "conversationId")
"""What a request can ask all messages of."""

_IDS_A_READ = 20_000
"""Message ids that one read names at most: 12 bytes each and a key, far below a command's 48 MB."""
_LEAST_SIZE = 64
"""Of a message without text: five field names, a date, and what is between them."""
_NAMED = 1000
"""Missing ids that an error names at most."""
_MESSAGE_FIELDS = dict.fromkeys(
    (
        *("organizationId", "contactId", "conversationId", "content", "sender", "senderType"),
        *("timestamp", "createdAt", "direction", "isAIGenerated"),
    ),
    1,
)

_A_SAMPLE = 10
"""Conversations of a chunk that tell which way of sorting fits."""


class Conversations:
    """The platform's side, only read."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._names = connections.settings
        self._index_order_fits = True
        """Off once most conversations have no `timestamp`: reading them in index order is then in vain."""

    def fetch(self, entries: Iterable[Entry]) -> Iterator[Fetched]:
        """Each entry with its conversation, or with the error that it fails with, as they arrive.

        ContactNotFound and ConversationNotFound are what there is now; whether to wait is the caller's choice.
        Raises StoreUnavailable, StoreConflict.
        """
        entries = list(entries)
        key, wanted = _most_wanted(entries)
        parents, groups = self._parents_and(entries, key, wanted)
        by_ids: list[Entry] = []
        by_owner: dict[str, dict[ObjectId, list[Entry]]] = {key: defaultdict(list) for key in _OWNERS}
        for entry in entries:
            if fault := parents.check(entry):
                yield entry, fault
            elif owner := _owner_key(entry):
                by_owner[owner][entry[owner]].append(entry)
            else:
                by_ids.append(entry)
        yield from self._grouped(key, by_owner.pop(key), parents, groups)
        for other, left in by_owner.items():
            yield from self._grouped(other, left, parents)
        for entry in by_ids:
            yield entry, self._named(entry, parents)

    def _parents_and(
        self, entries: Sequence[Entry], key: str, wanted: Mapping[ObjectId, Sequence[Entry]]
    ) -> tuple[Parents, Groups | None]:
        """The parents, and in the same read the messages of these owners, which are not checked yet.

        None: the messages have to be read by themselves.
        """
        # One owner asked for by two organizations: one of them in vain, and which one the parents tell.
        if not wanted or any(len({each["organizationId"] for each in some}) > 1 for some in wanted.values()):
            return read_parents(self._connections, entries), None
        pipeline = [{"$match": _condition(key, wanted)}, *self._ways()[0](key)]
        with_messages = {"$unionWith": {"coll": self._names.messages_collection, "pipeline": pipeline}}
        try:
            return read_parents_and(self._connections, entries, with_messages, len(wanted))
        except SnapshotTooLarge:
            return read_parents(self._connections, entries), None

    # --- all of a conversation's, all of a contact's --------------------------------------------------

    def _grouped(
        self, key: str, wanted: dict[ObjectId, list[Entry]], parents: Parents, groups: Groups | None = None
    ) -> Iterator[Fetched]:
        """`groups`: of these owners, and maybe of others, as read in the first of the ways."""
        if not wanted:
            return
        lent = self._lent(wanted) if key == "contactId" and parents.lend else {}
        left = {owner: entries for owner, entries in wanted.items() if owner not in lent}
        for owner, messages in self._in_bulk(key, left, groups) if left else ():
            for entry in left.pop(owner):
                yield entry, Conversation(parents.contacts[entry["contactId"]], messages)
        for owner in [*left, *lent]:
            alone = self._alone(_condition(key, {owner: wanted[owner]}, lent.get(owner)))
            for entry in wanted[owner]:
                if isinstance(alone, SnapshotError):
                    yield entry, alone
                else:
                    yield entry, Conversation(parents.contacts[entry["contactId"]], alone)

    def _ways(self) -> tuple[Stages, ...]:
        return (in_index_order, in_computed_order) if self._index_order_fits else (in_computed_order,)

    def _in_bulk(
        self, key: str, left: dict[ObjectId, list[Entry]], groups: Groups | None
    ) -> Iterator[tuple[ObjectId, Messages]]:
        """Those whose messages are regular; whoever takes one pops it from `left`, so that the rest stays."""
        for stages in self._ways():
            asked, odd = len(left), 0
            try:
                for group in groups or self._aggregate(key, left, stages):
                    found = read_group(group)
                    if found is None:
                        odd += 1
                    elif found[0] in left:
                        yield found
            except SnapshotTooLarge:
                return  # one conversation beyond 16 MiB breaks the aggregation
            if stages is in_index_order and asked >= _A_SAMPLE:
                self._index_order_fits = odd < asked / 2
            if not left:
                return
            groups = None

    def _lent(self, wanted: Mapping[ObjectId, list[Entry]]) -> dict[ObjectId, list[ObjectId]]:
        """Contact → those of its conversations that have messages without a `contactId`, which are its too."""
        organizations = {"$in": list({entries[0]["organizationId"] for entries in wanted.values()})}
        conversations = self._connections.database[self._names.conversations_collection]
        messages = self._connections.database[self._names.messages_collection]
        lent: dict[ObjectId, list[ObjectId]] = defaultdict(list)
        own: Document = {"organizationId": organizations, "contactId": {"$in": list(wanted)}}
        with store_errors():
            theirs = {each["_id"]: each["contactId"] for each in conversations.find(own, {"contactId": 1})}
            if theirs:
                unnamed = {"organizationId": organizations, "contactId": None, "conversationId": {"$in": list(theirs)}}
                for conversation in messages.distinct("conversationId", unnamed):
                    if isinstance(conversation, ObjectId) and conversation in theirs:  # an array may have others too
                        lent[theirs[conversation]].append(conversation)
        return lent

    def _aggregate(self, key: str, wanted: Mapping[ObjectId, list[Entry]], stages: Stages) -> Iterator[RawBSONDocument]:
        pipeline = [{"$match": _condition(key, wanted)}, *stages(key)]
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
                size += _least_size(message)
                if size > LARGEST:
                    return SnapshotTooLarge(limit=LARGEST)
        return encode_messages(found)

    # --- exactly those named --------------------------------------------------------------------------

    def _named(self, entry: Entry, parents: Parents) -> Conversation | SnapshotError:
        ids: list[ObjectId] = entry["messageIds"]
        collection = self._connections.database[self._names.messages_collection].with_options(codec_options=PLAIN)
        found: list[Document] = []
        size = 0
        with store_errors():
            for first in range(0, len(ids), _IDS_A_READ):
                condition = {
                    "_id": {"$in": ids[first : first + _IDS_A_READ]},
                    "organizationId": entry["organizationId"],
                }
                for message in collection.find(condition, _MESSAGE_FIELDS):
                    found.append(message)
                    size += _least_size(message)
                    if size > LARGEST:
                        return SnapshotTooLarge(limit=LARGEST)
        theirs = self._conversations_of(entry, found)
        kept = [each for each in found if belongs(each, entry["contactId"], theirs)]
        if len(kept) < len(ids):
            there = {each["_id"] for each in kept}
            missing = [str(each) for each in ids if each not in there]
            return MessagesNotFound(missing=missing[:_NAMED], missingCount=len(missing))
        return Conversation(parents.contacts[entry["contactId"]], encode_messages(kept))

    def _conversations_of(self, entry: Entry, messages: list[Document]) -> set[ObjectId]:
        """Those of the contact's conversations that messages without a `contactId` name."""
        unnamed = (each.get("conversationId") for each in messages if each.get("contactId") is None)
        named = {each for each in unnamed if isinstance(each, ObjectId)}
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


def _owner_key(entry: Entry) -> str | None:
    """Which field says whose messages are wanted; None where they are named one by one."""
    if entry.get("messageIds"):
        return None
    return "conversationId" if entry.get("conversationId") else "contactId"


def _most_wanted(entries: Sequence[Entry]) -> tuple[str, dict[ObjectId, list[Entry]]]:
    """Of the two ways to ask for all messages the one that most of the entries take: owner → entries."""
    wanted: dict[str, dict[ObjectId, list[Entry]]] = {key: defaultdict(list) for key in _OWNERS}
    for entry in entries:
        if key := _owner_key(entry):
            wanted[key][entry[key]].append(entry)
    return max(wanted.items(), key=lambda each: len(each[1]))


def _condition(
    key: str, wanted: Mapping[ObjectId, Sequence[Entry]], lent: Collection[ObjectId] | None = None
) -> Document:
    """Messages carry `conversationId` or `contactId` or both; a contact's may carry the former only (`lent`).

    A branch for each organization, so that a message of one is never another's, whatever ids it carries.
    """
    by_organization: dict[ObjectId, set[ObjectId]] = defaultdict(set)
    for owner, entries in wanted.items():
        by_organization[entries[0]["organizationId"]].add(owner)
    branches: list[Document] = []
    for organization, owners in by_organization.items():
        branches.append({"organizationId": organization, key: {"$in": list(owners)}})
        if lent:
            branches.append({"organizationId": organization, "conversationId": {"$in": list(lent)}, "contactId": None})
    return branches[0] if len(branches) == 1 else {"$or": branches}


def _least_size(message: Document) -> int:
    """Bytes that a message takes in a snapshot at least."""
    content = message.get("content")
    return _LEAST_SIZE + (len(content.encode()) if isinstance(content, str) else 0)


def as_awaited(fault: SnapshotError) -> ParentNotYetThere:
    """The same fault, while its parent document may still come."""
    return ParentNotYetThere(f"{fault.message} It may still come.", awaited=fault.code, **fault.details)
