"""The last step of an erasure: search all our collections for the person's identifiers."""

from collections import Counter
from typing import Any

from worker.erasure.identifiers import Identifiers
from worker.jobs.slices import Slice
from worker.service import Service
from worker.stores.connections import Document, store_errors

_PAGE = 200


class Search:
    """Searches documents as they are stored. Raises StoreUnavailable, StoreConflict."""

    def __init__(self, service: Service, own: Slice, person: Identifiers) -> None:
        self._service = service
        self._own = own
        self._person = person
        names = service.settings
        # A snapshot or request belongs to the contact that its field names, whatever its texts say.
        self._of_people = (names.snapshots_collection, names.requests_collection)
        self._collections = (
            *self._of_people,
            *(names.jobs_collection, names.exports_collection, names.policies_collection, names.left_out_collection),
            *(names.keys_collection, names.state_collection, names.erasures_collection, names.outbox_collection),
        )

    def __call__(self, left: Counter[str], mentions: Counter[str]) -> bool:
        """Continue; return whether everything was searched.

        `left`: documents that name the contact. `mentions`: other people's documents that have an address or number.
        """
        state = self._own.checkpoint.setdefault("search", {"collection": 0, "after": None})
        while state["collection"] < len(self._collections):
            if self._own.is_over:
                return False
            name = self._collections[state["collection"]]
            found = self._page(name, state["after"])
            for document in found:
                self._count(name, document, left, mentions)
            if len(found) == _PAGE:
                state["after"] = found[-1]["_id"]
            else:
                state |= {"collection": state["collection"] + 1, "after": None}
        del self._own.checkpoint["search"]
        return True

    def _page(self, name: str, after: Any) -> list[Any]:
        # The job of this erasure holds the identifiers until it is finished.
        condition: Document = {"_id": {"$ne": self._own.job.id, **({"$gt": after} if after is not None else {})}}
        if name in self._of_people:
            condition["organizationId"] = self._person.organization
        with store_errors():
            collection = self._service.connections.raw_database[name]
            return list(collection.find(condition).sort("_id", 1).limit(_PAGE))

    def _count(self, name: str, document: Any, left: Counter[str], mentions: Counter[str]) -> None:
        owned = document.get("contactId") == self._person.contact
        if owned or (name not in self._of_people and self._person.names_contact(document.raw)):
            left[name] += 1
        elif self._person.mentions(document.raw):
            mentions[name] += 1
