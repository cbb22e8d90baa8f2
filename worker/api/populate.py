"""Puts users and contacts in the place of their ids, as the platform does on reading."""

from collections.abc import Iterable, Sequence
from typing import Any

from bson import ObjectId

from worker.stores.connections import Connections, Document, store_errors

_USER = ("firstName", "lastName", "email")
_CONTACT = ("firstName", "lastName", "phoneNumber", "email", "channelType")


class Populate:
    """Of one organization's snapshots: another's users and contacts are as if they were gone."""

    def __init__(self, connections: Connections) -> None:
        self._database = connections.database
        self._names = connections.settings

    def __call__(self, organization: ObjectId, snapshots: Sequence[Document]) -> list[Document]:
        """Two reads for any number of snapshots. Raises StoreUnavailable, StoreConflict."""
        users = self._find(
            self._names.users_collection, organization, (each.get("userId") for each in snapshots), _USER
        )
        contacts = self._find(
            self._names.contacts_collection,
            organization,
            (each.get("contactId") for each in snapshots),
            (*_CONTACT, "channelTypes"),
        )
        return [
            each
            | {
                "userId": _of(_in(users, each.get("userId")), _USER),
                "contactId": _of(_with_channel(_in(contacts, each.get("contactId"))), _CONTACT),
            }
            for each in snapshots
        ]

    def _find(
        self, collection: str, organization: ObjectId, ids: Iterable[Any], fields: Sequence[str]
    ) -> dict[Any, Document]:
        wanted = {each for each in ids if isinstance(each, ObjectId)}
        if not wanted:
            return {}
        condition = {"_id": {"$in": list(wanted)}, "organizationId": organization}
        with store_errors():
            found = self._database[collection].find(condition, dict.fromkeys(fields, 1))
            return {each["_id"]: each for each in found}


def _in(documents: dict[Any, Document], key: Any) -> Document | None:
    """The platform may have stored anything there."""
    return documents.get(key) if isinstance(key, ObjectId) else None


def _of(document: Document | None, fields: Sequence[str]) -> Document | None:
    return document and {"_id": document["_id"], **{name: document.get(name) for name in fields}}


def _with_channel(contact: Document | None) -> Document | None:
    """The platform has `channelType`, or several in `channelTypes`: then the first."""
    if (
        contact
        and contact.get("channelType") is None
        and isinstance(kinds := contact.get("channelTypes"), list)
        and kinds
    ):
        return {**contact, "channelType": kinds[0]}
    return contact
