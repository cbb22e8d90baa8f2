"""The last step of an erasure: search all our collections for the person's identifiers."""

from collections import Counter
from typing import Any

from worker.domain.ledger_entry import ERASING
from worker.erasure.identifiers import Identifiers
from worker.erasure.pages import Pages, of_people
from worker.jobs.slices import Slice
from worker.service import Service
from worker.source.ids import stored_forms
from worker.stores.connections import Document


class Search:
    """Searches the raw BSON of documents. Raises StoreUnavailable, StoreConflict."""

    def __init__(self, service: Service, job_slice: Slice, person: Identifiers) -> None:
        self._job_slice = job_slice
        self._person = person
        names = service.settings
        # A snapshot or request belongs to the contact in its field `contactId`, whatever its texts contain.
        self._of_people = of_people(names, person)
        others = (
            *(names.jobs_collection, names.exports_collection, names.policies_collection, names.left_out_collection),
            *(names.keys_collection, names.state_collection, names.erasures_collection, names.outbox_collection),
            *(names.holds_collection, names.counts_collection),
        )
        # What another organization writes, such as the notes of a backfill, must not keep this erasure from ending.
        # Documents without the field belong to none.
        own: Document = {"organizationId": {"$in": [*stored_forms([person.organization]), None]}}
        self._pages = Pages(service, job_slice, "search", {**self._of_people, **dict.fromkeys(others, own)})

    def __call__(self, left: Counter[str], mentions: Counter[str]) -> bool:
        """Continue the search; return whether everything was searched.

        Adds counts by collection to `left`, for documents that name the contact, and to `mentions`, for other people's
        documents that contain the person's e-mail address or phone number.
        """

        own_ids = stored_forms([self._person.contact])

        def count(name: str, document: Any) -> None:
            if document["_id"] == self._job_slice.job.id:
                return  # the job of this erasure holds the identifiers until it is finished
            owned = document.get("contactId") in own_ids or document.get(ERASING) in own_ids
            if owned or (name not in self._of_people and self._person.names_contact(document.raw)):
                left[name] += 1
            elif self._person.mentions(document.raw):
                mentions[name] += 1

        return self._pages.visit(count)
