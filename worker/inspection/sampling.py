"""Reads bounded samples of the platform's collections, and never writes to them."""

import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field

import pymongo
from bson import ObjectId
from pymongo.errors import PyMongoError
from pymongo.read_concern import ReadConcern

from worker.errors import StoreConflict, StoreUnavailable
from worker.inspection.profile import Profile
from worker.source.ids import read_id, stored_forms
from worker.stores.connections import PLAIN, Connections, store_errors

_BATCH = 100
_LIST_SECONDS = 5


@dataclass
class Sample:
    """The result of sampling a collection, and how many documents were read."""

    collection: str
    documents: int = 0
    """MongoDB's estimate of the number of documents in the collection."""
    profile: Profile = field(default_factory=Profile)
    seconds: float = 0.0
    cut_short: bool = False
    """Whether the time ran out before the sample was complete."""


def collection_names(connections: Connections) -> list[str]:
    """Return the collections and views of the database. Raises StoreUnavailable, StoreConflict."""
    with store_errors():
        return sorted(connections.database.list_collection_names(filter={"name": {"$not": {"$regex": "^system\\."}}}))


def database_names(connections: Connections) -> list[str]:
    """Return the server's other databases with data, without MongoDB's own; none if the user may not list them."""
    others = {"admin", "config", "local", connections.database.name}
    with suppress(PyMongoError), pymongo.timeout(_LIST_SECONDS):
        return sorted(set(connections.mongo.list_database_names()) - others)
    return []


def is_empty(connections: Connections, collection: str) -> bool:
    """Return whether a collection has no documents. Raises StoreUnavailable, StoreConflict."""
    with store_errors():
        return connections.database[collection].find_one({}, {"_id": 1}) is None


def sample(connections: Connections, collection: str, size: int, seconds: float) -> Sample:
    """Profile up to `size` random documents, read in at most `seconds`. Raises StoreUnavailable, StoreConflict."""
    started = time.monotonic()
    read = connections.database[collection].with_options(codec_options=PLAIN, read_concern=ReadConcern("local"))
    result = Sample(collection)
    with store_errors():
        result.documents = read.estimated_document_count()
    try:
        with store_errors(), pymongo.timeout(seconds):
            stages = [{"$sample": {"size": size}}]
            with read.aggregate(stages, allowDiskUse=True, batchSize=_BATCH) as cursor:
                for document in cursor:
                    result.profile.add(document)
    except (StoreConflict, StoreUnavailable):
        if time.monotonic() - started < seconds:
            raise
        result.cut_short = True
    result.seconds = time.monotonic() - started
    return result


def known(connections: Connections, collection: str, ids: Iterable[ObjectId]) -> set[ObjectId]:
    """Return the ids that exist as `_id` in a collection. Raises StoreUnavailable, StoreConflict."""
    wanted = stored_forms(ids)
    if not wanted:
        return set()
    with store_errors():
        found = connections.database[collection].find({"_id": {"$in": wanted}}, {"_id": 1})
        return {read_id(document["_id"]) for document in found}
