"""A service for contract tests, with an organization's data and a record of what it publishes."""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from bson import ObjectId

from worker.domain.ledger_entry import LedgerEntry
from worker.domain.requests import SnapshotRequest
from worker.errors import SnapshotError
from worker.service import NewRequest, Receipt, Service
from worker.settings import Settings
from worker.stores import indexes
from worker.stores.connections import Connections
from worker.stores.wakeups import CREATE

START = datetime(2026, 5, 13, 13, 0, tzinfo=UTC)


@dataclass
class Published:
    """A publisher that records wake-ups instead of sending them."""

    chunks: list[tuple[str, list[str]]] = field(default_factory=list)

    def __call__(
        self,
        queue: str,
        chunks: Iterable[Sequence[str]],
        at: datetime,
        delay: timedelta | None = None,
        task_id: str | None = None,
        task: str = CREATE,
    ) -> None:
        self.chunks += [(queue, list(chunk)) for chunk in chunks]

    @property
    def ids(self) -> list[str]:
        return [each for _, chunk in self.chunks for each in chunk]


class Bench:
    """A service and one organization with data. `published` holds what it would have sent to Celery."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.connections = Connections(settings)
        self.published = Published()
        self.service = Service(self.connections, self.published)
        self.organization = ObjectId()
        indexes.ensure_key(self.connections)

    @property
    def database(self) -> Any:
        return self.connections.database

    def another(self, **changed: Any) -> "Bench":
        """Stands for another process in the same organization: it has its own connections and changed settings."""
        other = Bench(self.settings.model_copy(update=changed))
        other.organization = self.organization
        return other

    # --- the platform's data ------------------------------------------------------------------------------

    def contact(self, **fields: Any) -> ObjectId:
        document = {"_id": ObjectId(), "organizationId": self.organization, "firstName": "Priya", **fields}
        self.database.contacts.insert_one(document)
        key: ObjectId = document["_id"]
        return key

    def conversation(self, contact: ObjectId, messages: int = 3, **fields: Any) -> ObjectId:
        ids = {"organizationId": self.organization, "contactId": contact}
        document = {"_id": ObjectId(), **ids, **fields}
        self.database.conversations.insert_one(document)
        if messages:
            self.database.messages.insert_many(
                self.message(number, contactId=contact, conversationId=document["_id"]) for number in range(messages)
            )
        key: ObjectId = document["_id"]
        return key

    def message(self, number: int, **fields: Any) -> dict[str, Any]:
        return {
            "_id": ObjectId(),
            "organizationId": self.organization,
            "content": f"Hello {number}",
            "direction": "inbound" if number % 2 else "outbound",
            "createdAt": START + timedelta(seconds=number),
            **fields,
        }

    # --- requests -----------------------------------------------------------------------------------------

    def asked(
        self, contact: ObjectId, request_id: str | None = None, queue: str = "snapshots", **body: Any
    ) -> NewRequest:
        request = SnapshotRequest.read({"organizationId": self.organization, "contactId": contact, **body})
        return NewRequest(request, request_id or f"r-{ObjectId()}", "client", queue)

    def accepted(self, *asked: NewRequest) -> list[ObjectId]:
        """Accepts requests without enqueuing them; returns their ids."""
        receipts = self.service.accept(asked)
        for receipt in receipts:
            if isinstance(receipt, SnapshotError):
                raise receipt
        return [receipt.id for receipt in receipts if isinstance(receipt, Receipt)]

    def chunk(self, count: int, messages: int = 2) -> list[ObjectId]:
        """Accepts `count` requests, each for a conversation of its own; returns their ids."""
        contact = self.contact()
        return self.accepted(
            *(self.asked(contact, conversationId=self.conversation(contact, messages)) for _ in range(count))
        )

    # --- what the outside sees ----------------------------------------------------------------------------

    def entry(self, key: ObjectId) -> LedgerEntry:
        found: LedgerEntry = self.database.snapshotrequests.find_one({"_id": key})
        return found

    def entries(self, keys: Sequence[ObjectId]) -> list[LedgerEntry]:
        return list(self.database.snapshotrequests.find({"_id": {"$in": list(keys)}}).sort("_id", 1))

    def change(self, keys: Sequence[ObjectId], **fields: Any) -> None:
        """Sets fields of ledger entries, to simulate what happened to them before."""
        self.database.snapshotrequests.update_many({"_id": {"$in": list(keys)}}, {"$set": fields})

    def snapshots(self) -> dict[ObjectId, dict[str, Any]]:
        return {each["_id"]: each for each in self.database.trainingsnapshots.find()}

    def events(self) -> list[dict[str, Any]]:
        return [event for _, event in self.service.events.read(count=100_000)]

    def ago(self, **past: float) -> datetime:
        return self.service.clock.now() - timedelta(**past)

    def advance(self, **later: float) -> None:
        """Moves this service's clock forward."""
        self.connections.clock._known = (self.service.clock.now() + timedelta(**later), time.monotonic())


@contextmanager
def bench_on(settings: Settings) -> Iterator[Bench]:
    bench = Bench(settings)
    try:
        yield bench
    finally:
        bench.connections.close()
