"""Reads the names of the platform's users who took part in a conversation, for redaction."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from bson import ObjectId

from worker.domain.ledger_entry import LedgerEntry
from worker.domain.normalize import describe
from worker.source.ids import read_id, stored_forms
from worker.stores.connections import PLAIN, Connections, Document, store_errors

Name = tuple[str, str]
"""First and last name; one of them may be empty."""


def name_of(person: Mapping[str, object]) -> Name:
    """Return the first and last name of a contact or user."""
    return describe(person.get("firstName")) or "", describe(person.get("lastName")) or ""


def read_agents(connections: Connections, entries: Sequence[LedgerEntry]) -> dict[ObjectId, list[Name]]:
    """Return the names of the users who resolved each entry's conversations or requested it, by the entry's `_id`.

    Raises StoreUnavailable, StoreConflict.
    """
    conversations = _read_resolvers(connections, entries)
    requesters = {entry["_id"]: [user] for entry in entries if (user := entry.get("userId"))}
    wanted: dict[ObjectId, list[ObjectId]] = defaultdict(list)
    for entry in entries:
        key = entry.get("conversationId") or entry["contactId"]
        wanted[entry["_id"]] = list(dict.fromkeys(conversations.get(key, []) + requesters.get(entry["_id"], [])))
    names = _read_users(connections, entries, {user for users in wanted.values() for user in users})
    return {key: [names[user] for user in users if user in names] for key, users in wanted.items()}


def _read_resolvers(connections: Connections, entries: Sequence[LedgerEntry]) -> dict[ObjectId, list[ObjectId]]:
    """Return the users who resolved conversations, by conversation or, for requests that name none, by contact."""
    fields = connections.fields.conversation
    by_id = [key for entry in entries if (key := entry.get("conversationId"))]
    by_contact = [entry["contactId"] for entry in entries if not entry.get("conversationId")]
    organizations = stored_forms({entry["organizationId"] for entry in entries})
    # Most open conversations have no resolver, and need not be sent.
    which: Document = {fields["organizationId"]: {"$in": organizations}, fields["resolvedBy"]: {"$ne": None}}
    collection = connections.database[connections.settings.conversations_collection].with_options(codec_options=PLAIN)
    pairs: list[tuple[Any, Any]] = []
    with store_errors():
        if by_id:
            named = {**which, "_id": {"$in": stored_forms(by_id)}}
            found = collection.find(named, fields.projection(["resolvedBy"]))
            pairs += ((each["_id"], each.get("resolvedBy")) for each in found)
        if by_contact:
            # Grouped, because a contact may have very many conversations.
            match = {**which, fields["contactId"]: {"$in": stored_forms(by_contact)}}
            pair = {"contact": fields.expression("contactId"), "user": fields.expression("resolvedBy")}
            groups = collection.aggregate([{"$match": match}, {"$group": {"_id": pair}}])
            pairs += ((each["_id"].get("contact"), each["_id"].get("user")) for each in groups)
    resolvers: dict[ObjectId, set[ObjectId]] = defaultdict(set)
    for owner, user in ((read_id(owner), read_id(user)) for owner, user in pairs):
        if isinstance(owner, ObjectId) and isinstance(user, ObjectId):
            resolvers[owner].add(user)
    return {owner: sorted(users) for owner, users in resolvers.items()}


def _read_users(connections: Connections, entries: Sequence[LedgerEntry], users: set[ObjectId]) -> dict[ObjectId, Name]:
    if not users:
        return {}
    fields = connections.fields.user
    organizations = stored_forms({entry["organizationId"] for entry in entries})
    which = {"_id": {"$in": stored_forms(users)}, fields["organizationId"]: {"$in": organizations}}
    collection = connections.database[connections.settings.users_collection].with_options(codec_options=PLAIN)
    with store_errors():
        found = collection.find(which, fields.projection(["firstName", "lastName"]))
        return {read_id(each["_id"]): name_of(each) for each in found}
