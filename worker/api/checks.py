"""What is looked up before a request is accepted: its contact, conversation and messages are the organization's."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from bson import ObjectId

from worker.errors import MessagesNotFound, SnapshotError
from worker.source.ownership import Parents, belongs
from worker.stores.connections import Connections, Document, store_errors

Entry = Mapping[str, Any]

_IDS_A_READ = 20_000
_NAMED = 1000
"""Missing ids that an error carries at most."""


class Checks:
    """Reads of parents, a few for any number of requests."""

    def __init__(self, connections: Connections) -> None:
        self._database = connections.database
        self._names = connections.settings

    def __call__(self, entries: Sequence[Entry]) -> list[SnapshotError | None]:
        """For each request's fields, what it lacks, if anything. Raises StoreUnavailable, StoreConflict."""
        parents = self._parents(entries)
        faults = [parents.check(entry) for entry in entries]
        naming = [
            place
            for place, (entry, fault) in enumerate(zip(entries, faults, strict=True))
            if fault is None and entry.get("messageIds")
        ]
        if naming:
            found = self._messages({key for place in naming for key in entries[place]["messageIds"]})
            lent = self._lent(found.values())
            for place in naming:
                faults[place] = _missing(entries[place], found, lent)
        return faults

    def _parents(self, entries: Sequence[Entry]) -> Parents:
        """Owners of the contacts and conversations that are named, and nothing else of them."""
        organizations = list({each["organizationId"] for each in entries})
        found = Parents()
        for kept, collection, field in (
            (found.contacts, self._names.contacts_collection, "contactId"),
            (found.conversations, self._names.conversations_collection, "conversationId"),
        ):
            if wanted := list({each[field] for each in entries if each.get(field)}):
                condition = {"_id": {"$in": wanted}, "organizationId": {"$in": organizations}}
                fields = {"organizationId": 1, "contactId": 1}
                with store_errors():
                    some = self._database[collection].find(condition, fields, batch_size=len(wanted) + 1)
                    kept.update({each["_id"]: each for each in some})
        return found

    def _messages(self, wanted: Collection[ObjectId]) -> dict[ObjectId, Document]:
        """Owners of messages, by `_id`."""
        ids = list(wanted)
        collection = self._database[self._names.messages_collection]
        fields = {"organizationId": 1, "contactId": 1, "conversationId": 1}
        found: dict[ObjectId, Document] = {}
        with store_errors():
            for first in range(0, len(ids), _IDS_A_READ):
                some = collection.find({"_id": {"$in": ids[first : first + _IDS_A_READ]}}, fields)
                found |= {each["_id"]: each for each in some}
        return found

    def _lent(self, messages: Collection[Document]) -> dict[ObjectId, Document]:
        """The conversations of messages that name no contact, by `_id`."""
        unnamed = (each.get("conversationId") for each in messages if each.get("contactId") is None)
        named = {each for each in unnamed if isinstance(each, ObjectId)}
        if not named:
            return {}
        collection = self._database[self._names.conversations_collection]
        with store_errors():
            found = collection.find({"_id": {"$in": list(named)}}, {"organizationId": 1, "contactId": 1})
            return {each["_id"]: each for each in found}


def _missing(
    entry: Entry, messages: Mapping[ObjectId, Document], lent: Mapping[ObjectId, Document]
) -> MessagesNotFound | None:
    organization, contact = entry["organizationId"], entry["contactId"]
    theirs = {
        key
        for key, each in lent.items()
        if each.get("organizationId") == organization and each.get("contactId") == contact
    }
    missing = [
        str(key)
        for key in entry["messageIds"]
        if (message := messages.get(key)) is None
        or message.get("organizationId") != organization
        or not belongs(message, contact, theirs)
    ]
    return MessagesNotFound(missing=missing[:_NAMED], missingCount=len(missing)) if missing else None
