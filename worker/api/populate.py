"""Replaces the ids of users and contacts with their documents, as the platform does when it reads snapshots."""

from collections.abc import Mapping, Sequence
from typing import Any

from bson import ObjectId

from worker.source.documents import find_by_id
from worker.stores.connections import Connections, Document

_USER = ("firstName", "lastName", "email")
_CONTACT = ("firstName", "lastName", "phoneNumber", "email", "channelType")


class Populator:
    """Populates the snapshots of one organization. Users and contacts of other organizations count as missing."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._names = connections.settings
        self._fields = connections.fields

    def __call__(self, organization: ObjectId, snapshots: Sequence[Document]) -> list[Document]:
        """Populate snapshots, with two reads for any number. Raises StoreUnavailable, StoreConflict."""
        users = find_by_id(
            self._connections,
            self._names.users_collection,
            self._fields.user,
            organization,
            (snapshot.get("userId") for snapshot in snapshots),
            _USER,
        )
        contacts = find_by_id(
            self._connections,
            self._names.contacts_collection,
            self._fields.contact,
            organization,
            (snapshot.get("contactId") for snapshot in snapshots),
            (*_CONTACT, "channelTypes"),
        )
        return [
            snapshot
            | {
                "userId": _select(_get(users, snapshot.get("userId")), _USER),
                "contactId": _select(_with_channel(_get(contacts, snapshot.get("contactId"))), _CONTACT),
            }
            for snapshot in snapshots
        ]


def _get(documents: Mapping[ObjectId, Document], key: Any) -> Document | None:
    """Look up a key, which may have any type, because the platform may have stored it."""
    return documents.get(key) if isinstance(key, ObjectId) else None


def _select(document: Document | None, fields: Sequence[str]) -> Document | None:
    return document and {"_id": document["_id"], **{name: document.get(name) for name in fields}}


def _with_channel(contact: Document | None) -> Document | None:
    """Fill in `channelType` from the first of `channelTypes`: the platform stores one or the other."""
    if (
        contact
        and contact.get("channelType") is None
        and isinstance(kinds := contact.get("channelTypes"), list)
        and kinds
    ):
        return {**contact, "channelType": kinds[0]}
    return contact
