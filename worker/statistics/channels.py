"""Finds the channels of snapshots, which their conversations or contacts have."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bson import ObjectId

from worker.domain.source_fields import CollectionFields
from worker.source.ids import read_id, stored_forms
from worker.stores.connections import PLAIN, Connections, Document, store_errors


def channels_of(
    connections: Connections, organization: ObjectId, snapshots: Sequence[Mapping[str, Any]]
) -> list[str | None]:
    """Return the channel of each snapshot: its conversation's, else its contact's, else None. Makes two reads.

    Raises StoreUnavailable, StoreConflict.
    """
    names, fields = connections.settings, connections.fields
    conversations = _find(
        connections,
        names.conversations_collection,
        fields.conversation,
        organization,
        (each.get("conversationId") for each in snapshots),
        ["channelType"],
    )
    contacts = _find(
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


def _find(
    connections: Connections,
    collection: str,
    fields: CollectionFields,
    organization: ObjectId,
    ids: Iterable[Any],
    names: Sequence[str],
) -> dict[ObjectId, Document]:
    wanted = {key for key in ids if isinstance(key, ObjectId)}
    if not wanted:
        return {}
    condition = {"_id": {"$in": stored_forms(wanted)}, fields["organizationId"]: {"$in": stored_forms([organization])}}
    documents = connections.database[collection].with_options(codec_options=PLAIN)
    with store_errors():
        return {read_id(each["_id"]): each for each in documents.find(condition, fields.projection(names))}


def _get(documents: Mapping[ObjectId, Document], key: Any) -> Document:
    return documents.get(key, {}) if isinstance(key, ObjectId) else {}


def _channel(document: Document) -> str | None:
    several = document.get("channelTypes")
    kinds = [document.get("channelType"), *(several if isinstance(several, list) else [])]
    return next((str(kind) for kind in kinds if isinstance(kind, str) and kind), None)
