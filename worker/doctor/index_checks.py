"""Checks that every index exists and that the ledger's key is unique."""

from collections.abc import Iterator, Mapping
from typing import Any

import pymongo

from worker.doctor.findings import Finding, failure, ok, warning
from worker.stores.connections import Connections, store_errors
from worker.stores.indexes import Index, own_indexes, required_indexes

_SECONDS = 10
_DISQUALIFYING = ("sparse", "partialFilterExpression", "hidden", "collation")
"""Options that make an index on the same keys useless for our reads, unless our index has the same option."""


def check(connections: Connections) -> Iterator[Finding]:
    """Look for missing indexes. Raises StoreUnavailable, StoreConflict."""
    names = connections.settings
    existing: dict[str, list[Mapping[str, Any]]] = {}
    with store_errors(), pymongo.timeout(_SECONDS):
        views = {each["name"] for each in connections.database.list_collections(filter={"type": "view"})}
        required = [index for index in required_indexes(names) if index.collection not in views]
        for name in {index.collection for index in required}:
            existing[name] = list(connections.database[name].list_indexes())
    for name in sorted(views.intersection(index.collection for index in required_indexes(names))):
        yield warning(
            f"{name} is a view, so its indexes cannot be checked.",
            "Create those of docs/operations.md on the collection behind it, and set "
            "SNAPSHOTS_CREATE_SOURCE_INDEXES=false.",
        )
    faults = [fault for index in required if (fault := _fault(index, existing[index.collection]))]
    yield from faults
    if not faults:
        yield ok(f"all {len(required)} indexes exist")
    yield from _foreign_on_ledger(own_indexes(names), existing[names.requests_collection], names.requests_collection)


def _fault(index: Index, existing: list[Mapping[str, Any]]) -> Finding | None:
    keys = list(index.keys)
    alike = [found for found in existing if list(found["key"].items()) == keys]
    shown = f"{index.collection} {{{', '.join(name for name, _ in keys)}}}"
    unique = bool(index.options.get("unique"))
    if not alike:
        return (failure if unique else warning)(
            f"The index {shown} is missing ({index.purpose}).",
            "Workers, listeners and the API create it when they start. If it stays missing, their logs say why.",
        )
    if unique and not any(found.get("unique") for found in alike):
        return failure(
            f"The index {shown} is not unique, so duplicates are possible ({index.purpose}).",
            f"Run db.{index.collection}.dropIndex({alike[0]['name']!r}), remove duplicates, then start a worker.",
        )
    wanted = index.options
    if all(any(found.get(option) != wanted.get(option) for option in _DISQUALIFYING) for found in alike):
        return warning(
            f"The index {shown} is sparse, partial, hidden or has a collation, so reads cannot use it.",
            f"Run db.{index.collection}.dropIndex({alike[0]['name']!r}), then start a worker.",
        )
    return None


def _foreign_on_ledger(ours: list[Index], existing: list[Mapping[str, Any]], ledger: str) -> Iterator[Finding]:
    """Find foreign indexes on the ledger. An entry changes three times, and each index makes these writes slower."""
    known = [list(index.keys) for index in ours if index.collection == ledger]
    foreign = [found["name"] for found in existing if list(found["key"].items()) not in [[("_id", 1)], *known]]
    if foreign:
        yield warning(
            f"The collection {ledger} has indexes that this project does not use: {', '.join(foreign)}.",
            "Each of them slows down every request. Drop those that no other program needs.",
        )
