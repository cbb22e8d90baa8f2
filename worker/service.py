"""The use cases: accept requests, delete a snapshot, redrive a failed request. Independent of Celery.

    accept → enqueue → fetch → assemble → decide → emit → finish

Producers do the first two of these steps, with `accept` and `enqueue`; workers do the others, in `worker.runs`.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import cast

import pymongo
from bson import ObjectId

from worker.domain.ledger_entry import ACCEPTED, LedgerEntry, Status
from worker.domain.requests import SnapshotRequest, Trigger, body_hash
from worker.domain.traceparent import TRACEPARENT
from worker.errors import (
    AcceptUnknown,
    BrokerUnavailable,
    ContactErased,
    NotFound,
    RequestIdConflict,
    SnapshotDeleted,
    SnapshotError,
    TransientError,
)
from worker.log import get_logger
from worker.source.conversations import Conversations
from worker.stores import indexes
from worker.stores.acceptance import Acceptance, Wake
from worker.stores.connections import Connections, Document
from worker.stores.counts import record_changes, removals
from worker.stores.events import Events
from worker.stores.ledger import Ledger, key_of
from worker.stores.redriving import redrive
from worker.stores.run_records import RunRecords
from worker.stores.snapshots import Snapshots
from worker.stores.tombstones import Person, Tombstones
from worker.stores.wakeups import BULK, INTERACTIVE, Publish, chunks_of

log = get_logger(__name__)

_MARK_SECONDS = 2
"""Time limit for marking requests whose wake-ups could not be published, so that the next sweep enqueues them."""


@dataclass(frozen=True, slots=True)
class NewRequest:
    """A validated request that is not accepted yet.

    Example:
        new = NewRequest(SnapshotRequest.read(body, service.settings), request_id="ticket-4711", trigger="api")
    """

    request: SnapshotRequest
    request_id: str
    """Idempotency key: with the organization, it identifies the request in the ledger."""
    trigger: Trigger
    """How the request came in."""
    queue: str = INTERACTIVE
    """The Celery queue of its wake-up: INTERACTIVE for one request, BULK if it may share chunks with others."""
    not_before: datetime | None = None
    """The earliest time to enqueue it. The ledger stores long delays; a Celery countdown does not."""
    traceparent: str | None = None
    """The producer's trace: stored in the entry and sent in the event."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """An accepted request, durable in the ledger."""

    entry: LedgerEntry
    created: bool
    """Whether this call accepted the request. False if an earlier request has the same key; this is then the receipt
    of that request."""

    @property
    def id(self) -> ObjectId:
        """The request's id, and the snapshot's."""
        return self.entry["_id"]

    @property
    def organization_id(self) -> ObjectId:
        """The organization, as in the entry."""
        return self.entry["organizationId"]

    @property
    def request_id(self) -> str:
        """The idempotency key, which is unique within the organization."""
        return self.entry["requestId"]

    @property
    def status(self) -> Status:
        """`accepted`, `completed` or `failed`. An earlier request with the same key may be finished already."""
        return self.entry["status"]


Check = Callable[[Sequence[LedgerEntry]], Sequence[SnapshotError | None]]
"""Returns for each entry that is not in the ledger yet the error with which to refuse it, or None."""


class Service:
    """The use cases. One instance per process, shared by its threads; `worker.bootstrap.service` returns it.

    Example:
        receipt = service().submit(NewRequest(request, request_id="ticket-4711", trigger="client"))
        print(receipt.id, receipt.status)
    """

    def __init__(self, connections: Connections, publish: Publish) -> None:
        self.connections = connections
        self.settings = connections.settings
        self.clock = connections.clock
        self.ledger = Ledger(connections)
        self.acceptance = Acceptance(self.ledger, self.settings.run_deadline)
        self.snapshots = Snapshots(connections)
        self.conversations = Conversations(connections)
        self.events = Events(connections)
        self.run_records = RunRecords(connections)
        self.tombstones = Tombstones(connections)
        self.publish = publish
        self._key_is_unique = False

    # --- the producer's half --------------------------------------------------------------------------

    def submit(self, new: NewRequest) -> Receipt:
        """Accept one request durably and enqueue it. If Redis is down, the sweep enqueues it later.

        Args:
            new: The request. Submitting it again with the same request id and body is safe.

        Returns:
            The receipt: of this request, or of the earlier one that has the same request id and the same body.

        Raises:
            RequestIdConflict: The organization has used the request id with another body.
            SnapshotDeleted: The request id is that of a request whose snapshot was deleted.
            ContactErased: The contact was erased, so that no request for it is accepted.
            AcceptUnknown: MongoDB did not confirm the insert. Submit the request again with the same request id.
            StoreUnavailable: MongoDB cannot be reached; nothing was accepted.
        """
        (receipt,) = self.accept([new], wake=self._wake_new)
        if isinstance(receipt, SnapshotError):
            raise receipt
        return receipt

    def accept(
        self, requests: Sequence[NewRequest], check: Check | None = None, wake: Wake | None = None
    ) -> list[Receipt | SnapshotError]:
        """Insert requests into the ledger with one command. Enqueues them only if `wake` is given.

        Args:
            requests: Any number of requests, which may be of different organizations.
            check: Called once with the new ledger entries before they are inserted. Returns, for each, the error that
                refuses it, or None.
            wake: Called with the entries that were inserted, before this returns; with a few entries, after a pause,
                even before they are durable.

        Returns:
            For each request, in order, its receipt or the error that refuses it: those that `submit` raises, or one of
            `check`. A refused request does not hold up the others.

        Raises:
            AcceptUnknown: It is unknown whether any of the requests was accepted.
            StoreUnavailable: MongoDB cannot be reached; nothing was accepted.
        """
        seconds = self.settings.run_deadline.total_seconds()
        until = time.monotonic() + seconds
        with pymongo.timeout(seconds):
            if not self._key_is_unique:
                indexes.ensure_key(self.connections)  # a producer may start before any worker
                self._key_is_unique = True
            now = self.clock.now()
            entries = [_entry(each, now) for each in requests]
            errors = self._check(entries, check)
        accepted = [entry for entry, error in zip(entries, errors, strict=True) if error is None]
        known = self.acceptance.insert(accepted, until, wake)
        return [
            error or _receipt(entry, known.get(key_of(entry))) for entry, error in zip(entries, errors, strict=True)
        ]

    def _check(self, entries: Sequence[LedgerEntry], check: Check | None) -> list[SnapshotError | None]:
        """Return for each request the error if its contact was erased or `check` refuses it.

        A request that is in the ledger already is checked as well, so that no contact that was erased gets a receipt.
        """
        erased = self.tombstones.erased(person_of(entry) for entry in entries)
        errors = check(entries) if check else [None] * len(entries)
        if not erased:
            return list(errors)
        return [
            ContactErased() if person_of(entry) in erased else error
            for entry, error in zip(entries, errors, strict=True)
        ]

    def enqueue(self, receipts: Iterable[Receipt], chunk_size: int | None = None) -> None:
        """Publish wake-ups for requests that were just accepted. If that fails, the sweep does it later.

        `chunk_size`: maximum number of requests in a message of the bulk queue; None: that of the settings.
        """
        self._wake_new([receipt.entry for receipt in receipts if receipt.created], chunk_size)

    def _wake_new(self, entries: Sequence[LedgerEntry], chunk_size: int | None = None) -> None:
        by_queue: dict[str, list[LedgerEntry]] = {}
        for entry in entries:
            if queue := entry.get("queue"):
                by_queue.setdefault(queue, []).append(entry)
        for queue, of_queue in by_queue.items():
            self.wake(queue, of_queue, 1 if queue == INTERACTIVE else chunk_size or self.settings.chunk_size)

    def wake(self, queue: str, entries: Sequence[LedgerEntry], chunk_size: int, task_id: str | None = None) -> bool:
        """Publish wake-ups with up to `chunk_size` requests each.

        Args:
            queue: The Celery queue, INTERACTIVE or BULK.
            entries: Accepted ledger entries.
            chunk_size: Maximum number of requests that one message names.
            task_id: The Celery id of the first message. None generates one.

        Returns:
            Whether Redis accepted all messages. If not, this is logged, and the next sweep repeats them.
        """
        try:
            self.publish(queue, chunks_of(entries, chunk_size), self.clock.now(), task_id=task_id)
        except BrokerUnavailable as error:
            log.warning("enqueue_failed", queue=queue, requests=len(entries), reason=error.message)
            with suppress(TransientError), pymongo.timeout(_MARK_SECONDS):
                self.ledger.mark_not_enqueued(entries)
            return False
        return True

    # --- delete, redrive ------------------------------------------------------------------------------

    def delete(self, organization: ObjectId, snapshot: ObjectId) -> None:
        """Delete a snapshot and record `deletedAt` in the ledger, so that no late run creates it again.

        A snapshot that the platform created has no ledger entry; if the platform removed a snapshot, only its entry is
        left. Either is enough.

        Raises:
            NotFound: The organization has neither the snapshot nor an entry of it.
            StoreConflict: Another process changed the same documents; it is safe to try again.
            StoreUnavailable: MongoDB cannot be reached.
        """
        with self.connections.transaction() as session:
            marked = self.ledger.mark_deleted(organization, snapshot, self.clock.now(), session)
            deleted = self.snapshots.delete(organization, snapshot, session)
            if not (marked or deleted):
                raise NotFound("Snapshot not found in this organization.")
            removed, entries = ([each] if each else [] for each in (deleted, marked))
            record_changes(self.connections, session, removals(organization, removed, entries))

    def redrive(self, ids: Sequence[ObjectId], task_id: str | None = None) -> list[LedgerEntry]:
        """Accept failed requests again, in their next round, and enqueue them.

        Args:
            ids: Ledger ids. Those that are unknown or not redrivable (`worker.domain.ledger_entry.REDRIVABLE`) are
                omitted.
            task_id: The id of the failed Celery task, which the first message continues, so that Flower shows the retry
                there.

        Returns:
            The entries that were redriven.

        Raises:
            RedriveUnknown: MongoDB did not confirm the change. The sweep enqueues the requests that were redriven.
            StoreConflict: Other processes kept changing the same entries; it is safe to try again.
            StoreUnavailable: MongoDB cannot be reached.
        """
        redriven = redrive(self.connections, ids, self.clock.now(), BULK)
        if redriven:
            self.wake(BULK, redriven, self.settings.chunk_size, task_id)
        return redriven


def _entry(new: NewRequest, now: datetime) -> LedgerEntry:
    entry: Document = new.request.body()
    entry |= {
        "_id": ObjectId(),
        "requestId": new.request_id,
        "bodyHash": body_hash(entry),
        "trigger": new.trigger,
        "status": ACCEPTED,
        "round": 0,
        "acceptedAt": now,
    }
    if new.not_before:
        entry["notBefore"] = new.not_before
    else:
        entry |= {"queue": new.queue, "enqueuedAt": now}
    if new.traceparent:
        entry[TRACEPARENT] = new.traceparent
    return cast("LedgerEntry", entry)


def person_of(entry: LedgerEntry) -> Person:
    """Return an entry's organization and contact, which identify its tombstone."""
    return entry["organizationId"], entry["contactId"]


def _receipt(entry: LedgerEntry, known: LedgerEntry | None) -> Receipt | SnapshotError:
    if known is None:
        return AcceptUnknown(requestId=entry["requestId"])
    if known["bodyHash"] != entry["bodyHash"]:
        return RequestIdConflict(requestId=entry["requestId"])
    if known.get("deletedAt"):
        return SnapshotDeleted(requestId=entry["requestId"])
    return Receipt(known, created=known["_id"] == entry["_id"])
