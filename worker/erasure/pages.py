"""Reads whole collections page by page, over many slices of an erasure."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from worker.domain.ledger_entry import STATES
from worker.erasure.identifiers import Identifiers
from worker.jobs.slices import Slice
from worker.service import Service
from worker.settings import Settings
from worker.source.ids import stored_forms
from worker.stores.connections import Document, store_errors

_PAGE = 200


def of_people(names: Settings, person: Identifiers, states: tuple[str, ...] = STATES) -> dict[str, Document]:
    """Return a filter for the person's organization, for each collection whose documents belong to contacts.

    `states`: the states of requests to include, which the index with their ids in order needs.
    """
    return {
        names.snapshots_collection: {"organizationId": {"$in": stored_forms([person.organization])}},
        names.requests_collection: {"organizationId": person.organization, "status": {"$in": list(states)}},
    }


class Pages:
    """Reads the raw documents of collections. Raises StoreUnavailable, StoreConflict."""

    def __init__(self, service: Service, job_slice: Slice, name: str, conditions: Mapping[str, Document]) -> None:
        """`name`: the field of the checkpoint with the position. `conditions`: the filter of each collection."""
        self._database = service.connections.raw_database
        self._job_slice = job_slice
        self._name = name
        self._conditions = list(conditions.items())

    def visit(self, each: Callable[[str, Any], None]) -> bool:
        """Call `each` with the collection and the document, for the next documents; return whether none are left."""
        state = self._job_slice.checkpoint.setdefault(self._name, {"collection": 0, "after": None})
        while state["collection"] < len(self._conditions):
            if self._job_slice.is_over:
                return False
            collection, condition = self._conditions[state["collection"]]
            count = 0
            last: Any = None
            for document in self._page(collection, condition, state["after"]):
                each(collection, document)
                last, count = document["_id"], count + 1
            if count == _PAGE:
                state["after"] = last
            else:
                state |= {"collection": state["collection"] + 1, "after": None}
        del self._job_slice.checkpoint[self._name]
        return True

    def _page(self, collection: str, condition: Document, after: Any) -> Iterator[Any]:
        """Yield up to `_PAGE` documents. At most 16 MB of them are in memory, because each may have that size."""
        later = {} if after is None else {"_id": {"$gt": after}}
        found = self._database[collection].find({**condition, **later}).sort("_id", 1).limit(_PAGE)
        with store_errors(), found as cursor:
            yield from cursor
