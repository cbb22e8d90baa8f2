"""Before a worker takes its first message, erases the contacts again that a restored backup has brought back."""

import time
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

from bson import ObjectId

from worker.domain.ledger_entry import ERASING
from worker.erasure import log
from worker.erasure.accepting import accept_again
from worker.erasure.erasure import Erasure
from worker.erasure.holds import Holds
from worker.jobs.slices import run_slice
from worker.jobs.store import Jobs
from worker.log import get_logger
from worker.service import Service
from worker.source.ids import read_id, stored_forms
from worker.stores.connections import Document, store_errors

_log = get_logger(__name__)

_PAUSE_SECONDS = 0.2
"""How long to wait for another process that has claimed an erasure, before looking again."""


def restore(service: Service) -> int:
    """Write the missing tombstones, and remove the records of those people; return the number of tombstones.

    The workers do the rest of the erasures. Raises InvalidSettings and all TransientErrors, after which it can be
    repeated.
    """
    lost = log.missing(service)
    if not lost:
        return 0
    jobs = Jobs(service)
    active = [each for each in lost if "liftedAt" not in each]
    for organization in {each["organizationId"] for each in active}:
        buried = {each["_id"]: each for each in active if each["organizationId"] == organization}
        for contact in chain(_contacts(service, organization), _of_platform(service, organization, buried)):
            if tombstone := buried.pop(service.tombstones.hash((organization, contact)), None):
                if Holds(service).is_set_since((organization, contact), tombstone["erasedAt"]):
                    # A hold is refused once a contact is erased, so that erasure was never committed.
                    _log.error("erasure_held", organization_id=str(organization), subject=tombstone["_id"])
                    lost.remove(tombstone)
                else:
                    _remove(jobs, contact, tombstone)
    if not lost:
        return 0
    # Written last, so that the next start repeats everything if this process is killed before.
    service.tombstones.put(lost)
    _log.warning("erasures_restored", tombstones=len(lost))
    return len(lost)


def _remove(jobs: Jobs, contact: ObjectId, tombstone: Document) -> None:
    """Accept the contact's erasure and run it until the records are removed.

    Several processes may do this at the same time. Those that find the job claimed wait for the one that runs it.
    """
    job = accept_again(jobs, contact, tombstone)
    work = Erasure(jobs, only_records=True)
    while (job.checkpoint or {}).get("phase") == "records":
        fence = job.fence
        run_slice(jobs, job.id, "start", work, work.clean_up)
        job = jobs.get(job.id)
        if job.fence == fence:
            time.sleep(_PAUSE_SECONDS)


def _contacts(service: Service, organization: ObjectId) -> Iterable[ObjectId]:
    """Return all contacts who have snapshots, requests, holds, or exports of their own."""
    forms = {"$in": stored_forms([organization])}
    names = service.settings
    places: dict[str, Any] = {
        names.snapshots_collection: "$contactId",
        names.requests_collection: {"$ifNull": ["$contactId", f"${ERASING}"]},
        names.holds_collection: "$contactId",
        names.jobs_collection: "$spec.contactId",
    }
    found: set[ObjectId] = set()
    with store_errors():
        for name, field in places.items():
            pipeline: list[Document] = [{"$match": {"organizationId": forms}}, {"$group": {"_id": field}}]
            # In snapshots of the platform, ids may be text.
            contacts = (read_id(row["_id"]) for row in service.connections.database[name].aggregate(pipeline))
            found |= {contact for contact in contacts if isinstance(contact, ObjectId)}
    return found


def _of_platform(service: Service, organization: ObjectId, buried: Mapping[str, Document]) -> Iterator[ObjectId]:
    """Yield the platform's contacts, if mentions of people for whom nothing else is stored are to be redacted."""
    if not any(each.get("redactMentions") for each in buried.values()):
        return
    which = {service.connections.fields.contact["organizationId"]: {"$in": stored_forms([organization])}}
    collection = service.connections.database[service.settings.contacts_collection]
    with store_errors():
        found = [read_id(row["_id"]) for row in collection.find(which, {"_id": 1})]
    for contact in found:
        if isinstance(contact, ObjectId):
            tombstone = buried.get(service.tombstones.hash((organization, contact)), {})
            if tombstone.get("redactMentions"):
                yield contact
