"""Finds the channels of snapshots, which their conversations or contacts have."""

from collections.abc import Mapping, Sequence
from typing import Any

from bson import ObjectId

from worker.source.documents import find_by_id
from worker.stores.connections import Connections, Document


def channels_of(
    connections: Connections, organization: ObjectId, snapshots: Sequence[Mapping[str, Any]]
) -> list[str | None]:
    """Return the channel of each snapshot: its conversation's, else its contact's, else None. Makes two reads.

    Raises StoreUnavailable, StoreConflict.
    """
    names, fields = connections.settings, connections.fields
    conversations = find_by_id(
        connections,
        names.conversations_collection,
        fields.conversation,
        organization,
        (each.get("conversationId") for each in snapshots),
        ["channelType"],
    )
    contacts = find_by_id(
        connections,
        names.contacts_collection,
        fields.contact,
        organization,
        (each.get("contactId") for each in snapshots),
        ["channelType", "channelTypes"],
    )
    return [
        _channel(_get(conversations, each.get("conversationId"))) or _channel(_get(contacts, each.get("contactId")))
        for each in snapshots
    ]


def _get(documents: Mapping[ObjectId, Document], key: Any) -> Document:
    return documents.get(key, {}) if isinstance(key, ObjectId) else {}


def _channel(document: Document) -> str | None:
    several = document.get("channelTypes")
    kinds = [document.get("channelType"), *(several if isinstance(several, list) else [])]
    return next((str(kind) for kind in kinds if isinstance(kind, str) and kind), None)
