"""The use cases: accept requests, run them, delete a snapshot, redrive a failure. No Celery in here.

    accept → enqueue → fetch → assemble → decide → emit → finish

`accept` and `enqueue` are the producer's half; `run` (in `runs`) is the worker's.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pymongo
from bson import ObjectId

from worker.domain.requests import ACCEPTED, SnapshotRequest, Trigger, body_hash
from worker.domain.traceparent import TRACEPARENT
from worker.errors import AcceptUnknown, BrokerUnavailable, Deleted, NotFound, RequestIdConflict, SnapshotError
from worker.log import get_logger
from worker.source.conversations import Conversations
from worker.stores import indexes
from worker.stores.connections import Connections, Document
from worker.stores.events import Events
from worker.stores.ledger import Ledger, key_of
from worker.stores.snapshots import Snapshots
from worker.stores.wakeups import BULK, INTERACTIVE, Publish, chunks_of

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Asked:
    """A checked request on its way in."""

    request: SnapshotRequest
    request_id: str
    trigger: Trigger
    queue: str = INTERACTIVE
    not_before: datetime | None = None
    """Long delays live in the ledger: enqueued when due."""
    traceparent: str | None = None
    """The producer's trace: kept on the entry, and goes out in the event."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """An accepted request: durable in the ledger. `id` is the snapshot's `_id` too."""

    id: ObjectId
    organization_id: ObjectId
    request_id: str
    status: str
    created: bool
    """Whether this call brought it in; else it is the first request's receipt."""
    entry: Mapping[str, Any]


class Service:
    """The use cases on real parts. One per process."""

    def __init__(self, connections: Connections, publish: Publish) -> None:
        self.connections = connections
        self.settings = connections.settings
        self.clock = connections.clock
        self.ledger = Ledger(connections)
        self.snapshots = Snapshots(connections)
        self.conversations = Conversations(connections)
        self.events = Events(connections)
        self.publish = publish
        self._key_is_unique = False

    # --- the producer's half --------------------------------------------------------------------------

    def submit(self, asked: Asked) -> Receipt:
        """Accepts and enqueues one request.

        Raises RequestIdConflict, Deleted, AcceptUnknown, StoreUnavailable. Redis may be down.
        """
        (receipt,) = self.accept([asked])
        if isinstance(receipt, SnapshotError):
            raise receipt
        self.enqueue([receipt])
        return receipt

    def accept(self, asked: Sequence[Asked]) -> list[Receipt | SnapshotError]:
        """Writes requests into the ledger in one insert; for each its receipt, or why it has none.

        The error is RequestIdConflict, Deleted, or AcceptUnknown (repeat with the same request id).
        Raises StoreUnavailable, AcceptUnknown where that is so for all.
        """
        with pymongo.timeout(self.settings.run_deadline.total_seconds()):
            if not self._key_is_unique:
                indexes.ensure_key(self.connections)  # a producer may be here before any worker
                self._key_is_unique = True
            now = self.clock.now()
            entries = [_entry(each, now) for each in asked]
            known = self.ledger.insert(entries)
        return [_receipt(entry, known.get(key_of(entry))) for entry in entries]

    def enqueue(self, receipts: Iterable[Receipt]) -> None:
        """Wakes workers up for what was just accepted. If that fails, the sweep does it later."""
        by_queue: dict[str, list[Mapping[str, Any]]] = {}
        for receipt in receipts:
            if receipt.created and (queue := receipt.entry.get("queue")):
                by_queue.setdefault(queue, []).append(receipt.entry)
        for queue, entries in by_queue.items():
            size = 1 if queue == INTERACTIVE else self.settings.chunk_size
            self.wake(queue, entries, size)

    def wake(self, queue: str, entries: Sequence[Mapping[str, Any]], chunk_size: int) -> bool:
        """Publishes wake-up calls of at most `chunk_size` requests each; whether the broker took them."""
        try:
            self.publish(queue, chunks_of(entries, chunk_size), self.clock.now())
        except BrokerUnavailable as error:
            log.warning("enqueue_failed", queue=queue, requests=len(entries), reason=error.message)
            return False
        return True

    # --- afterwards -----------------------------------------------------------------------------------

    def delete(self, organization: ObjectId, snapshot: ObjectId) -> None:
        """Removes a snapshot; the ledger keeps `deletedAt`, so that no late run brings it back.

        One that the platform has made has no entry, and one that it has removed has nothing but that. Raises NotFound
        where the organization has neither.
        """
        with self.connections.transaction() as session:
            marked = self.ledger.mark_deleted(organization, snapshot, self.clock.now(), session)
            found = self.snapshots.delete(organization, snapshot, session)
            if not (marked or found):
                raise NotFound("There is no such snapshot in this organization.")

    def redrive(self, ids: Sequence[ObjectId]) -> list[Document]:
        """Failed requests are accepted again, one round further; those that are, now.

        Left out: what is not failed, what has its event still to go out, and what retention has stripped.
        """
        again = self.ledger.redrive(ids, self.clock.now(), BULK)
        if again:
            self.wake(BULK, again, self.settings.chunk_size)
        return again


def _entry(asked: Asked, now: datetime) -> Document:
    body = asked.request.body()
    due: Document = {"notBefore": asked.not_before} if asked.not_before else {"queue": asked.queue, "enqueuedAt": now}
    return {
        "_id": ObjectId(),
        **body,
        "requestId": asked.request_id,
        "bodyHash": body_hash(body),
        "trigger": asked.trigger,
        "status": ACCEPTED,
        "round": 0,
        "acceptedAt": now,
        **due,
        **({TRACEPARENT: asked.traceparent} if asked.traceparent else {}),
    }


def _receipt(entry: Document, known: Document | None) -> Receipt | SnapshotError:
    if known is None:
        return AcceptUnknown(requestId=entry["requestId"])
    if known["bodyHash"] != entry["bodyHash"]:
        return RequestIdConflict(requestId=entry["requestId"])
    if known.get("deletedAt"):
        return Deleted(requestId=entry["requestId"])
    return Receipt(
        id=known["_id"],
        organization_id=known["organizationId"],
        request_id=known["requestId"],
        status=known["status"],
        created=known["_id"] == entry["_id"],
        entry=known,
    )
