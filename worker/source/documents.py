"""Reads documents of the platform by their ids, such as the contacts of snapshots."""

from collections.abc import Iterable, Sequence
from typing import Any

from bson import ObjectId

from worker.domain.source_fields import CollectionFields
from worker.source.ids import read_id, stored_forms
from worker.stores.connections import Connections, Document, store_errors


def find_by_id(
    connections: Connections,
    collection: str,
    fields: CollectionFields,
    organization: ObjectId,
    ids: Iterable[Any],
    names: Sequence[str],
) -> dict[ObjectId, Document]:
    """Return documents of one organization by id. Their `_id` is an ObjectId, also where it is stored as text.

    Args:
        connections: The connections of this process.
        collection: The name of the collection.
        fields: Where the platform stores its fields.
        organization: Documents of others are left out.
        ids: The ids. Values of other types are ignored: a platform may have stored anything as the id of a contact.
        names: The fields to read, by this service's names.

    Raises:
        StoreUnavailable, StoreConflict: MongoDB cannot be reached or was busy; it is safe to try again.
    """
    wanted = {key for key in ids if isinstance(key, ObjectId)}
    if not wanted:
        return {}
    condition = {"_id": {"$in": stored_forms(wanted)}, fields["organizationId"]: {"$in": stored_forms([organization])}}
    with store_errors():
        documents = connections.database[collection].find(condition, fields.projection(names))
        return {(key := read_id(document["_id"])): {**document, "_id": key} for document in documents}
