"""Reads the conversations that requests need, as the source of snapshots.

A chunk costs one read, whatever its size. It returns the contacts and conversations (`worker.source.ownership`), the
tombstones of those contacts that were erased, and then the messages, which the server converts, sorts and groups, so
that they arrive as the bytes that a snapshot stores. Exceptions cost more: a conversation with irregular messages is
read again, alone, and converted here; messages that name no contact cost two more reads, and messages that store ids as
text one more. If a conversation is too large, all conversations of the chunk are measured.
"""

from collections import defaultdict
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import pymongo
from bson import ObjectId
from bson.raw_bson import RawBSONDocument

from worker.domain.assembly import LARGEST, Conversation, Messages
from worker.domain.ledger_entry import LedgerEntry
from worker.errors import ContactErased, SnapshotError, SnapshotTooLarge, StoreConflict, StoreUnavailable
from worker.source.ids import read_id, stored_forms
from worker.source.message_pipeline import MessagePipeline, Stages
from worker.source.named_messages import read_named
from worker.source.ownership import Ownership, read_parents, read_parents_and
from worker.source.single import measure, read_alone
from worker.stores.connections import Connections, Document, store_errors
from worker.stores.tombstones import Lookup, Tombstones

Fetched = tuple[LedgerEntry, Conversation | SnapshotError]
Groups = Iterator[RawBSONDocument]
"""Messages by owner, as `worker.source.message_pipeline` groups them."""
Wanted = Mapping[ObjectId, Sequence[LedgerEntry]]
"""The entries that need all messages of an owner."""

_Owner = Literal["contactId", "conversationId"]
_OWNERS: tuple[_Owner, _Owner] = ("contactId", "conversationId")

_SAMPLE = 10
"""How many conversations must be read to decide which way of sorting fits."""
_BULK_SHARE = 0.3
"""Share of the run deadline that a read of many conversations may take. If it takes longer, one of them is probably too
large, and measuring each takes little time."""
_CUT_SHORT = (SnapshotTooLarge, StoreConflict, StoreUnavailable)
"""The errors of a read of many conversations if one of them is too large for the server's memory, for a document, or
for the time limit. If MongoDB itself is the cause, the next read fails as well."""


@dataclass(frozen=True, slots=True)
class _FirstRead:
    parents: Ownership
    groups: Groups | None
    """Messages of the owners that most entries need, not checked yet. None if they have to be read separately."""
    cut_short: bool = False


class Conversations:
    """Reads the contacts, conversations and messages that requests need.

    It never writes to the platform's collections.
    """

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._names = connections.settings
        self._fields = connections.fields
        self._tombstones = Tombstones(connections)
        self._pipeline = MessagePipeline(self._fields.message)
        self._bulk_seconds = connections.settings.run_deadline.total_seconds() * _BULK_SHARE
        self._index_order_fits = True
        """False once most conversations turn out to have messages without `timestamp`, which index order does not
        fit."""
        self._sampled = self._irregular = 0
        """How many conversations were read in index order since the last decision, and how many of them were
        irregular."""

    def fetch(self, entries: Iterable[LedgerEntry]) -> Iterator[Fetched]:
        """Yield each entry with its conversation or the error of reading it, in the order in which they arrive.

        ContactNotFound and ConversationNotFound mean that the document is missing now; the caller decides whether to
        wait for it. Raises StoreUnavailable, StoreConflict.

        ContactErased: it is enough to read the tombstones here, long before the transaction that decides, because it
        comes after the entries were loaded. An erasure first writes the tombstone and then changes every entry that was
        accepted before. So either the tombstone is read here, or the erasure finds the entry, and the transaction
        conflicts with it or comes before it.
        """
        entries = list(entries)
        key, wanted = _most_wanted(entries)
        lookup = self._tombstones.look_up((entry["organizationId"], entry["contactId"]) for entry in entries)
        first = self._read_first(entries, key, wanted, lookup)
        erased = lookup.erased(first.parents.tombstones)
        named: list[LedgerEntry] = []
        by_owner: dict[_Owner, dict[ObjectId, list[LedgerEntry]]] = {key: defaultdict(list) for key in _OWNERS}
        for entry in entries:
            if error := first.parents.check(entry):
                yield entry, error
            elif (entry["organizationId"], entry["contactId"]) in erased:
                yield entry, ContactErased()
            elif owner := _owner_key(entry):
                by_owner[owner][entry[owner]].append(entry)
            else:
                named.append(entry)
        yield from self._read_owners(key, by_owner.pop(key), first)
        for other, left in by_owner.items():
            yield from self._read_owners(other, left, _FirstRead(first.parents, None))
        for entry in named:
            yield from _results([entry], read_named(self._connections, entry), first.parents)

    def _read_first(self, entries: Sequence[LedgerEntry], key: _Owner, wanted: Wanted, lookup: Lookup) -> _FirstRead:
        """Read parents and tombstones and, in the same round trip, the messages of the owners most entries need."""
        # If two organizations need the same owner, it belongs to at most one of them; the parents tell to which.
        if not wanted or any(len({entry["organizationId"] for entry in some}) > 1 for some in wanted.values()):
            return _FirstRead(read_parents(self._connections, entries, lookup), None)
        pipeline = [{"$match": self._condition(key, wanted)}, *self._ways()[0](key)]
        with_messages = {"$unionWith": {"coll": self._names.messages_collection, "pipeline": pipeline}}
        try:
            with pymongo.timeout(self._bulk_seconds):
                parents, groups = read_parents_and(self._connections, entries, lookup, with_messages, len(wanted))
        except _CUT_SHORT:
            return _FirstRead(read_parents(self._connections, entries, lookup), None, cut_short=True)
        return _FirstRead(parents, None if parents.has_text_ids else groups)

    # --- all messages of a conversation or a contact --------------------------------------------------

    def _read_owners(
        self, key: _Owner, wanted: dict[ObjectId, list[LedgerEntry]], first: _FirstRead
    ) -> Iterator[Fetched]:
        """Yield the entries that need all messages of an owner, read in bulk if possible, otherwise one by one."""
        if not wanted:
            return
        parents = first.parents
        unnamed = self._conversations_with_unnamed(wanted, parents) if key == "contactId" else {}

        def condition(owner: ObjectId) -> Document:
            return self._condition(key, {owner: wanted[owner]}, unnamed.get(owner), text_ids=parents.has_text_ids)

        left = {owner: entries for owner, entries in wanted.items() if owner not in unnamed}
        cut_short = first.cut_short or (yield from self._read_in_bulk(key, left, parents, first.groups))
        to_measure = [*left, *unnamed] if cut_short else [*unnamed]
        sizes = {owner: measure(self._connections, condition(owner)) for owner in to_measure}
        for owner in [owner for owner, size in sizes.items() if size > LARGEST]:
            left.pop(owner, None)
            unnamed.pop(owner, None)
            yield from _results(wanted[owner], SnapshotTooLarge(limit=LARGEST), parents)
        if cut_short:
            parts = list(_parts(left, sizes))
            for part in parts:
                yield from self._read_in_bulk(key, part, parents)
            left = {owner: entries for part in parts for owner, entries in part.items()}
        for owner in [*left, *unnamed]:
            yield from _results(wanted[owner], read_alone(self._connections, condition(owner)), parents)

    def _ways(self) -> tuple[Stages, ...]:
        computed = self._pipeline.in_computed_order
        return (self._pipeline.in_index_order, computed) if self._index_order_fits else (computed,)

    def _read_in_bulk(
        self, key: _Owner, left: dict[ObjectId, list[LedgerEntry]], parents: Ownership, groups: Groups | None = None
    ) -> Generator[Fetched, None, bool]:
        """Yield the entries whose messages are regular, and remove their owners from `left`.

        `groups`: messages of these owners, and possibly of others, that were already read in the first way of sorting.
        Returns whether the read was cut short.
        """
        ways = (self._pipeline.in_computed_order_of_text_ids,) if parents.has_text_ids else self._ways()
        for stages in ways:
            if not left:
                return False
            read_count, irregular = len(left), 0
            try:
                for group in groups or self._aggregate(key, left, stages, text_ids=parents.has_text_ids):
                    found = self._pipeline.read_group(group)
                    if found is None:
                        irregular += 1
                    elif entries := left.pop(found[0], None):
                        yield from _results(entries, found[1], parents)
            except _CUT_SHORT:
                return True
            if stages == self._pipeline.in_index_order:
                self._sample(read_count, irregular)
            groups = None
        return False

    def _sample(self, read_count: int, irregular: int) -> None:
        """Count the conversations that were read in index order, and those of them that were irregular."""
        self._sampled += read_count
        self._irregular += irregular
        if self._sampled >= _SAMPLE:
            self._index_order_fits = self._irregular < self._sampled / 2
            self._sampled = self._irregular = 0

    def _aggregate(self, key: _Owner, wanted: Wanted, stages: Stages, *, text_ids: bool) -> Groups:
        pipeline = [{"$match": self._condition(key, wanted, text_ids=text_ids)}, *stages(key)]
        collection = self._connections.raw_database[self._names.messages_collection]
        with store_errors():
            with pymongo.timeout(self._bulk_seconds):
                cursor = collection.aggregate(pipeline, batchSize=len(wanted) + 1, allowDiskUse=True)
            with cursor:
                yield from cursor

    def _condition(
        self, key: _Owner, wanted: Wanted, unnamed: Collection[ObjectId] | None = None, *, text_ids: bool = False
    ) -> Document:
        """Return the filter for all messages of these owners.

        `unnamed`: conversations of the contact that have messages without a `contactId`. Each organization has its own
        branch of the filter, so that no organization gets messages of another, whatever ids they have.
        """
        by_organization: dict[ObjectId, set[ObjectId]] = defaultdict(set)
        for owner, entries in wanted.items():
            by_organization[entries[0]["organizationId"]].add(owner)
        names = self._fields.message
        branches: list[Document] = []
        for organization, owners in by_organization.items():
            own = {names["organizationId"]: {"$in": stored_forms([organization])} if text_ids else organization}
            branches.append({**own, names[key]: {"$in": stored_forms(owners) if text_ids else list(owners)}})
            if unnamed:
                conversations = stored_forms(unnamed) if text_ids else list(unnamed)
                branches.append({**own, names["conversationId"]: {"$in": conversations}, names["contactId"]: None})
        return branches[0] if len(branches) == 1 else {"$or": branches}

    def _conversations_with_unnamed(self, wanted: Wanted, parents: Ownership) -> dict[ObjectId, list[ObjectId]]:
        """Return, by contact, its conversations that have messages without a `contactId`."""
        if not (parents.has_unnamed or parents.has_text_ids):
            return {}
        conversations = self._connections.database[self._names.conversations_collection]
        messages = self._connections.database[self._names.messages_collection]
        conversation, message = self._fields.conversation, self._fields.message
        organizations = {"$in": stored_forms({entries[0]["organizationId"] for entries in wanted.values()})}
        own: Document = {
            conversation["organizationId"]: organizations,
            conversation["contactId"]: {"$in": stored_forms(wanted)},
        }
        unnamed: dict[ObjectId, list[ObjectId]] = defaultdict(list)
        with store_errors():
            found = conversations.find(own, conversation.projection(["contactId"]))
            owners = {read_id(each["_id"]): read_id(each["contactId"]) for each in found}
            keys = [key for key in owners if isinstance(key, ObjectId)]
            if keys:
                without: Document = {
                    message["organizationId"]: organizations,
                    message["contactId"]: None,
                    message["conversationId"]: {"$in": stored_forms(keys)},
                }
                # One value of an array field may belong to another contact.
                named = map(read_id, messages.distinct(message["conversationId"], without))
                for key in {each for each in named if isinstance(each, ObjectId) and each in owners}:
                    if owners[key] in wanted:  # not if it is one of several in an array
                        unnamed[owners[key]].append(key)
        return unnamed


def _owner_key(entry: LedgerEntry) -> _Owner | None:
    """Return the field whose messages an entry needs; None if it names messages."""
    if entry.get("messageIds"):
        return None
    return "conversationId" if entry.get("conversationId") else "contactId"


def _most_wanted(entries: Sequence[LedgerEntry]) -> tuple[_Owner, dict[ObjectId, list[LedgerEntry]]]:
    """Return the kind of owner that most entries need, and those entries by owner."""
    wanted: dict[_Owner, dict[ObjectId, list[LedgerEntry]]] = {key: defaultdict(list) for key in _OWNERS}
    for entry in entries:
        if key := _owner_key(entry):
            wanted[key][entry[key]].append(entry)
    return max(wanted.items(), key=lambda item: len(item[1]))


def _parts(
    wanted: Mapping[ObjectId, list[LedgerEntry]], sizes: Mapping[ObjectId, int]
) -> Iterator[dict[ObjectId, list[LedgerEntry]]]:
    """Split owners into parts of up to 16 MiB of messages, which the server can group in its memory."""
    part: dict[ObjectId, list[LedgerEntry]] = {}
    total = 0
    for owner, entries in wanted.items():
        if part and total + sizes[owner] > LARGEST:
            yield part
            part, total = {}, 0
        part[owner] = entries
        total += sizes[owner]
    if part:
        yield part


def _results(
    entries: Iterable[LedgerEntry], messages: Messages | SnapshotError | None, parents: Ownership
) -> Iterator[Fetched]:
    """Yield the entries that need the same messages, each with its conversation, or with the error of reading it."""
    for entry in entries:
        if isinstance(messages, SnapshotError):
            yield entry, messages
        else:
            yield entry, Conversation(parents.contacts[entry["contactId"]], messages)
