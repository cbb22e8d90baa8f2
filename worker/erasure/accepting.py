"""Accepts erasures: finds the person, writes the tombstone, and accepts the job."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bson import ObjectId

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
    """What there is of a contact, counted."""

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


def accept_erasure(jobs: Jobs, organization: ObjectId, contact: ObjectId, user: ObjectId | None = None) -> Job:
    """Write the tombstone and accept the erasure; return the one in progress if there is one.

    Raises NotFound if there is nothing of the contact, InvalidSettings, ErasureKeyDiffers.
    """
    service = jobs.service
    if service.settings.erasure_key is None:
        raise InvalidSettings(f"{PREFIX}ERASURE_KEY is not set: it hashes the contacts that were erased.")
    signing_key(service.settings)
    person = organization, contact
    subject = service.tombstones.hash(person)
    with store_errors():
        running = {"organizationId": organization, "kind": "erasure", "spec.subject": subject}
        open_ = jobs.collection.find_one({**running, "status": {"$in": UNFINISHED}})
    if open_:
        return Job.read(open_)
    found = find(service, person)
    if not found.is_known:
        raise NotFound(NOTHING)
    now = service.clock.now()
    with service.connections.transaction() as session:
        service.tombstones.put([{"_id": subject, "organizationId": organization, "erasedAt": now}], session)
        job = jobs.accept(
            "erasure",
            organization,
            {"subject": subject},
            user=user,
            enqueue=False,
            checkpoint=_beginning(found.identifiers),
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
    tombstones.put([{**found, "liftedAt": service.clock.now()}])
