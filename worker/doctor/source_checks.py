"""Checks that the platform's collections have documents: a wrong name looks like a platform without conversations."""

from collections.abc import Iterator

import pymongo

from worker.doctor.findings import Finding, ok, warning
from worker.settings import PREFIX
from worker.stores.connections import Connections, store_errors

_SECONDS = 10
_NAMED_BY = ("contacts_collection", "conversations_collection", "messages_collection")
"""The settings that name the collections without which no snapshot can be made."""


def check(connections: Connections) -> Iterator[Finding]:
    """Look for empty or missing collections of the platform. Raises StoreUnavailable, StoreConflict."""
    database, names = connections.database, connections.settings
    with store_errors(), pymongo.timeout(_SECONDS):
        empty = {name: database[getattr(names, name)].estimated_document_count() == 0 for name in _NAMED_BY}
    if all(empty.values()):
        yield warning(
            f"The database {database.name} has no contacts, conversations or messages.",
            f"If the platform has some, correct {PREFIX}MONGO_URL or {PREFIX}MONGO_DATABASE.",
        )
        return
    for name in filter(empty.get, _NAMED_BY):
        yield warning(
            f"The collection {getattr(names, name)} of the database {database.name} has no documents.",
            f"If it has another name, set {PREFIX}{name.upper()}; `snapshots inspect` finds it.",
        )
    if not any(empty.values()):
        yield ok("contacts, conversations and messages exist")
