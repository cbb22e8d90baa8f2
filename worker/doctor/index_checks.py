"""The indexes: all there, and the ledger's key unique."""

from collections.abc import Iterator, Mapping
from typing import Any

import pymongo

from worker.doctor.findings import Finding, failure, ok, warning
from worker.stores.connections import Connections, store_errors
from worker.stores.indexes import Index, own, wanted

_SECONDS = 10
_OTHER = ("sparse", "partialFilterExpression", "hidden", "collation")
"""What makes an index of the same keys one that does not serve."""


def check(connections: Connections) -> Iterator[Finding]:
    """Raises StoreUnavailable, StoreConflict."""
    names = connections.settings
    there: dict[str, list[Mapping[str, Any]]] = {}
    with store_errors(), pymongo.timeout(_SECONDS):
        for name in {index.collection for index in wanted(names)}:
            there[name] = list(connections.database[name].list_indexes())
    faults = [fault for index in wanted(names) if (fault := _fault(index, there[index.collection]))]
    yield from faults
    if not faults:
        yield ok(f"{len(wanted(names))} indexes")
    yield from _more_on_ledger(own(names), there[names.requests_collection], names.requests_collection)


def _fault(index: Index, there: list[Mapping[str, Any]]) -> Finding | None:
    keys = list(index.keys)
    alike = [each for each in there if list(each["key"].items()) == keys]
    shown = f"{index.collection} {{{', '.join(name for name, _ in keys)}}}"
    unique = bool(index.options.get("unique"))
    if not alike:
        said = f"The index {shown} is missing ({index.purpose})."
        return (failure if unique else warning)(
            said, "A worker, a listener or the API creates it at its start; its log says why it could not."
        )
    if unique and not any(each.get("unique") for each in alike):
        return failure(
            f"The index {shown} is not unique: one request may be done twice ({index.purpose}).",
            f"db.{index.collection}.dropIndex({alike[0]['name']!r}), remove what is there twice, start a worker.",
        )
    if all(any(each.get(option) for option in _OTHER) for each in alike):
        return warning(
            f"The index {shown} is sparse, partial, hidden or collated: reads cannot rely on it.",
            f"db.{index.collection}.dropIndex({alike[0]['name']!r}), then start a worker.",
        )
    return None


def _more_on_ledger(ours: list[Index], there: list[Mapping[str, Any]], ledger: str) -> Iterator[Finding]:
    """A request's entry changes three times, and each change is paid for in each index."""
    known = [list(index.keys) for index in ours if index.collection == ledger]
    more = [each["name"] for each in there if list(each["key"].items()) not in [[("_id", 1)], *known]]
    if more:
        yield warning(
            f"{ledger} has indexes that are not ours: {', '.join(more)}.",
            "Each slows down every request; drop those that nothing needs.",
        )
