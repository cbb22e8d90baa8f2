"""Accepts erasures: finds the person, writes the tombstone, and accepts the job."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bson import ObjectId
from pymongo.client_session import ClientSession

from worker.domain.ledger_entry import ERASING
from worker.erasure import log
from worker.erasure.holds import Holds
from worker.erasure.identifiers import Identifiers
from worker.erasure.receipt import signing_key
from worker.erasure.records import IDS
from worker.errors import InvalidSettings, NotFound, Refused
from worker.jobs.job import FAILED, UNFINISHED, Job
from worker.jobs.store import Jobs
from worker.service import Service
from worker.settings import PREFIX
from worker.source.ids import stored_forms
from worker.stores.connections import Document, in_transaction, store_errors
from worker.stores.tombstones import Person


class ErasureInProgress(Refused):
    """The contact is being erased; lift the erasure when it is finished."""

    code = "erasure_in_progress"


NOTHING = "Nothing of this contact was found in this organization."


@dataclass(frozen=True, slots=True)
class Found:
    """What is stored of a contact besides its requests, and the identifiers by which it is found."""

    on_platform: bool
    snapshots: int
    identifiers: Identifiers


def find(service: Service, person: Person) -> Found:
    """Look for a contact's document, count its snapshots, and collect the texts by which its data can be found.

    Args:
        service: The service of this process.
        person: The organization and the contact.

    Raises:
        StoreUnavailable, StoreConflict: MongoDB cannot be reached or was busy; it is safe to try again.
    """
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
    identifiers = Identifiers.of(organization, contact, [str(text) for text in texts if text])
    return Found(document is not None, snapshots, identifiers)


def count_requests(service: Service, person: Person, **options: Any) -> int:
    """Count the requests for a contact. This reads all requests of the organization: no index has the contact.

    Args:
        service: The service of this process.
        person: The organization and the contact.
        **options: Options of PyMongo's `count_documents`, such as `limit`.

    Raises:
        StoreUnavailable, StoreConflict: MongoDB cannot be reached or was busy; it is safe to try again.
    """
    organization, contact = person
    with store_errors():
        which = {"organizationId": organization, "$or": [{"contactId": contact}, {ERASING: contact}]}
        return service.ledger.collection.count_documents(which, **options)


def accept_erasure(
    jobs: Jobs,
    organization: ObjectId,
    contact: ObjectId,
    user: ObjectId | None = None,
    *,
    redact_mentions: bool = False,
) -> Job:
    """Write the tombstone of a contact and accept the job that removes all its data.

    From then on, no request for the contact is accepted. If an erasure of the contact is in progress, its job is
    returned unchanged.

    Args:
        jobs: The store of jobs.
        organization: The organization of the contact.
        contact: The contact to erase.
        user: The user who requested it; None for a command.
        redact_mentions: Whether to replace the person's e-mail addresses and phone numbers in other people's snapshots.

    Returns:
        The job. Its result is the signed receipt.

    Raises:
        NotFound: Nothing of the contact is stored.
        LegalHold: The contact must not be erased before the end of the hold.
        InvalidSettings: SNAPSHOTS_ERASURE_KEY or SNAPSHOTS_ERASURE_SIGNING_KEY is not set, or the log cannot be
            written.
        ErasureKeyDiffers: SNAPSHOTS_ERASURE_KEY is not the key that earlier erasures used.
        StoreUnavailable, StoreConflict: MongoDB cannot be reached or was busy; it is safe to try again.
    """
    service = jobs.service
    if service.settings.erasure_key is None:
        raise InvalidSettings(
            f"{PREFIX}ERASURE_KEY is not set: it hashes the contacts that were erased. Set it in all processes to a "
            "secret, such as one that `openssl rand -hex 32` prints, and keep it."
        )
    signing_key(service.settings)
    person = organization, contact
    subject = service.tombstones.hash(person)
    if open_ := _in_progress(jobs, organization, subject):
        return open_
    Holds(service).check(person)
    found = find(service, person)
    is_known = found.on_platform or found.snapshots or _left_in_files(jobs, organization, subject)
    if not (is_known or count_requests(service, person, limit=1)):
        raise NotFound(NOTHING)
    tombstone: Document = {"_id": subject, "organizationId": organization, "erasedAt": service.clock.now()}
    if redact_mentions or _redacts_mentions(service, subject):
        tombstone["redactMentions"] = True  # after a restore, it is done again

    def write(session: ClientSession) -> Job:
        if open_ := _in_progress(jobs, organization, subject, session):
            return open_  # another process was faster
        Holds(service).check(person, session)
        job = _accept(jobs, found.identifiers, tombstone, user, session)
        log.append(service.settings, tombstone)  # before the database, so that the log never has fewer tombstones
        return job

    job = in_transaction(service.connections, write)
    jobs.enqueue(job)
    return job


def accept_again(jobs: Jobs, contact: ObjectId, tombstone: Document) -> Job:
    """Accept the erasure of a contact that a restored backup has brought back, or return the one in progress.

    `tombstone`: the contact's tombstone from the log of erasures, which the database lacks.
    """
    organization = tombstone["organizationId"]
    if open_ := _in_progress(jobs, organization, tombstone["_id"]):
        return open_
    identifiers = find(jobs.service, (organization, contact)).identifiers
    connections = jobs.service.connections
    job = in_transaction(connections, lambda session: _accept(jobs, identifiers, tombstone, None, session))
    jobs.enqueue(job)
    return job


def _left_in_files(
    jobs: Jobs, organization: ObjectId, subject: str, session: ClientSession | None = None
) -> Mapping[str, bytes]:
    """Return the ids of snapshots that a failed erasure of this contact may have left in the files of exports."""
    which = {"organizationId": organization, "kind": "erasure", "spec.subject": subject, "status": FAILED}
    with store_errors():
        found = list(jobs.collection.find(which, {"left": 1, "checkpoint": 1}, session=session))
    left = [each.get("left") or each.get("checkpoint") or {} for each in found]
    ids = {name: b"".join(each.get(name, b"") for each in left) for name in IDS}
    return {name: value for name, value in ids.items() if value}


def _redacts_mentions(service: Service, subject: str) -> bool:
    """Return whether an earlier erasure of this contact, which was not lifted, was to redact mentions."""
    with store_errors():
        which = {"_id": subject, "redactMentions": True, "liftedAt": None}
        return service.tombstones.collection.find_one(which, {"_id": 1}) is not None


def _in_progress(jobs: Jobs, organization: ObjectId, subject: str, session: ClientSession | None = None) -> Job | None:
    running = {"organizationId": organization, "kind": "erasure", "spec.subject": subject}
    with store_errors():
        found = jobs.collection.find_one({**running, "status": {"$in": UNFINISHED}}, session=session)
    return Job.read(found) if found else None


def _accept(
    jobs: Jobs,
    identifiers: Identifiers,
    tombstone: Document,
    user: ObjectId | None,
    session: ClientSession,
) -> Job:
    """Write the tombstone and the job, which the caller enqueues after the transaction."""
    left = _left_in_files(jobs, identifiers.organization, tombstone["_id"], session)
    jobs.service.tombstones.put([tombstone], session)
    Holds(jobs.service).remove((identifiers.organization, identifiers.contact), session)
    return jobs.accept(
        "erasure",
        identifiers.organization,
        {"subject": tombstone["_id"], **({"redactMentions": True} if tombstone.get("redactMentions") else {})},
        user=user,
        enqueue=False,
        checkpoint={**_beginning(identifiers), **left},
        session=session,
    )


def _beginning(identifiers: Identifiers) -> Mapping[str, Any]:
    """Return the first checkpoint. It holds the identifiers, and is removed when the job is finished."""
    counts: dict[str, Any] = {name: {} for name in ("removed", "found", "mentions", "others")}
    return {"phase": "records", "rounds": 0, "ids": b"", **counts, **identifiers.as_fields()}


def lift(jobs: Jobs, organization: ObjectId, contact: ObjectId) -> None:
    """Lift the tombstone of a contact, so that requests for it are accepted again. What was removed stays removed.

    Raises:
        NotFound: The contact was not erased.
        ErasureInProgress: The erasure is not finished; lift it afterwards.
    """
    service = jobs.service
    tombstones, now = service.tombstones, service.clock.now()
    key = tombstones.hash((organization, contact))

    def write(session: ClientSession) -> Document:
        found = tombstones.collection.find_one({"_id": key, "liftedAt": None}, session=session)
        if found is None:
            raise NotFound("This contact was not erased.")
        if open_ := _in_progress(jobs, organization, key, session):
            raise ErasureInProgress(erasure=str(open_.id))
        lifted = {**found, "liftedAt": now}
        tombstones.put([lifted], session)
        return lifted

    log.append(service.settings, in_transaction(service.connections, write))
