"""Accepts erasures: finds the person, writes the tombstone, and accepts the job."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bson import ObjectId

from worker.erasure import log
from worker.erasure.holds import Holds
from worker.erasure.identifiers import Identifiers
from worker.erasure.receipt import signing_key
from worker.errors import InvalidSettings, NotFound
from worker.jobs.job import UNFINISHED, Job
from worker.jobs.store import Jobs
from worker.service import Service
from worker.settings import PREFIX
from worker.source.ids import stored_forms
from worker.stores.connections import Document, store_errors
from worker.stores.tombstones import Person

NOTHING = "Nothing of this contact was found in this organization."


@dataclass(frozen=True, slots=True)
class Found:
    """How much is kept of a contact."""

    on_platform: bool
    snapshots: int
    requests: int
    identifiers: Identifiers

    @property
    def is_known(self) -> bool:
        return self.on_platform or bool(self.snapshots or self.requests)


def find(service: Service, person: Person) -> Found:
    """Look for a contact: the platform's document, snapshots, requests. Raises StoreUnavailable, StoreConflict."""
    organization, contact = person
    database, names = service.connections.database, service.settings
    of = service.connections.fields.contact
    organizations, contacts = stored_forms([organization]), stored_forms([contact])
    texts: list[Any] = []
    with store_errors():
        condition: Document = {"_id": {"$in": contacts}, of["organizationId"]: {"$in": organizations}}
        document = database[names.contacts_collection].find_one(condition, of.projection(["email", "phoneNumber"]))
        if document:
            texts += [document.get("email"), document.get("phoneNumber")]
        mine = {"organizationId": {"$in": organizations}, "contactId": {"$in": contacts}}
        for name in ("customerEmail", "customerPhone"):
            texts += service.snapshots.collection.distinct(name, mine)
        snapshots = service.snapshots.collection.count_documents(mine)
        requests = service.ledger.collection.count_documents({"organizationId": organization, "contactId": contact})
    identifiers = Identifiers.of(organization, contact, [str(text) for text in texts if text])
    return Found(document is not None, snapshots, requests, identifiers)


def accept_erasure(
    jobs: Jobs,
    organization: ObjectId,
    contact: ObjectId,
    user: ObjectId | None = None,
    *,
    redact_mentions: bool = False,
) -> Job:
    """Write the tombstone and accept the erasure; return the one in progress, as it was asked for, if there is one.

    `redact_mentions`: replace the person's addresses and numbers in other people's snapshots.

    Raises NotFound if there is nothing of the contact, LegalHold, InvalidSettings, ErasureKeyDiffers.
    """
    service = jobs.service
    if service.settings.erasure_key is None:
        raise InvalidSettings(f"{PREFIX}ERASURE_KEY is not set: it hashes the contacts that were erased.")
    signing_key(service.settings)
    person = organization, contact
    subject = service.tombstones.hash(person)
    if open_ := _in_progress(jobs, organization, subject):
        return open_
    Holds(service).check(person)
    found = find(service, person)
    if not found.is_known:
        raise NotFound(NOTHING)
    tombstone = {"_id": subject, "organizationId": organization, "erasedAt": service.clock.now()}
    log.append(service.settings, tombstone)  # before the database: it may only know more
    return _accept(jobs, found.identifiers, tombstone, user, redact_mentions=redact_mentions)


def accept_again(jobs: Jobs, contact: ObjectId, tombstone: Document) -> Job:
    """Accept the erasure of a contact whom a restored backup has brought back; return the one in progress, if any."""
    organization = tombstone["organizationId"]
    if open_ := _in_progress(jobs, organization, tombstone["_id"]):
        return open_
    return _accept(jobs, find(jobs.service, (organization, contact)).identifiers, tombstone, None)


def _in_progress(jobs: Jobs, organization: ObjectId, subject: str) -> Job | None:
    running = {"organizationId": organization, "kind": "erasure", "spec.subject": subject}
    with store_errors():
        found = jobs.collection.find_one({**running, "status": {"$in": UNFINISHED}})
    return Job.read(found) if found else None


def _accept(
    jobs: Jobs, identifiers: Identifiers, tombstone: Document, user: ObjectId | None, *, redact_mentions: bool = False
) -> Job:
    """Write the tombstone and the job in one transaction."""
    service, organization = jobs.service, identifiers.organization
    with service.connections.transaction() as session:
        service.tombstones.put([tombstone], session)
        Holds(service).remove((organization, identifiers.contact), session)
        job = jobs.accept(
            "erasure",
            organization,
            {"subject": tombstone["_id"], **({"redactMentions": True} if redact_mentions else {})},
            user=user,
            enqueue=False,
            checkpoint=_beginning(identifiers),
            session=session,
        )
    jobs.enqueue(job)
    return job


def _beginning(identifiers: Identifiers) -> Mapping[str, Any]:
    """The first checkpoint. It holds the identifiers, and is removed when the job is finished."""
    counts: dict[str, Any] = {name: {} for name in ("removed", "found", "mentions", "others")}
    return {"phase": "records", "rounds": 0, "ids": b"", **counts, **identifiers.as_fields()}


def lift(service: Service, organization: ObjectId, contact: ObjectId) -> None:
    """End the effect of a tombstone, which stays as a record. Raises NotFound."""
    tombstones = service.tombstones
    key = tombstones.hash((organization, contact))
    with store_errors():
        found = tombstones.collection.find_one({"_id": key, "liftedAt": None})
    if found is None:
        raise NotFound("This contact was not erased.")
    lifted = {**found, "liftedAt": service.clock.now()}
    tombstones.put([lifted])
    log.append(service.settings, lifted)
