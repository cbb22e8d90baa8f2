"""The demo: imports sample conversations, makes requests of every kind, and collects their outcomes."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.resources import as_file, files
from typing import Any
from uuid import uuid4

from bson import ObjectId

from worker.domain.ledger_entry import LedgerEntry, is_open, is_unsent
from worker.domain.requests import SnapshotRequest
from worker.errors import SnapshotError
from worker.importing import import_files
from worker.service import NewRequest, Receipt, Service
from worker.stores import indexes
from worker.stores.connections import Document
from worker.stores.events import event_of
from worker.stores.wakeups import BULK, INTERACTIVE

Progress = Callable[[int, int], None]
"""Called with the number of finished requests and the total."""

TIMEOUT_SECONDS = 60.0
_LATE_SECONDS = 1.5
"""Seconds after the request at which the missing contact is inserted."""


@dataclass
class Scenario:
    """One kind of request, and the ledger ids of its requests."""

    name: str
    ids: list[ObjectId] = field(default_factory=list)


@dataclass(frozen=True)
class DemoResult:
    """The ledger entries by scenario, one snapshot, and its event."""

    scenarios: list[tuple[str, list[LedgerEntry]]]
    snapshot: Document
    event: dict[str, Any]

    @property
    def as_expected(self) -> bool:
        """Whether all requests completed except those for the empty conversation and the missing message."""
        codes = [each["error"]["code"] for _, entries in self.scenarios for each in entries if each.get("error")]
        return sorted(codes) == ["empty_conversation", "messages_not_found"]


class Demo:
    """Makes the requests and waits for their outcomes."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._organization = ObjectId()
        self._database = service.connections.database
        self._names = service.settings
        self._fields = service.connections.fields

    def __call__(self, progress: Progress) -> DemoResult:
        """Run all scenarios. Raises SnapshotError if a server fails or an outcome is missing after a minute."""
        indexes.ensure(self._service.connections)
        with as_file(files("worker.local") / "samples" / "conversations.jsonl") as path:
            import_files([path], self._organization, self._service.connections)
        late = {"_id": ObjectId(), "organizationId": self._organization, "firstName": "Late", "lastName": "Comer"}
        scenarios = [self._single(), self._chunk(), self._retried(late), self._failing()]
        late_at = time.monotonic() + _LATE_SECONDS
        entries = self._wait(scenarios, progress, late_at, late)
        shown = next(each for each in entries.values() if each["status"] == "completed" and each.get("notes"))
        snapshot = self._service.snapshots.get(self._organization, shown["snapshotId"])
        if snapshot is None:
            raise SnapshotError("A snapshot that the ledger refers to does not exist.")
        return DemoResult(
            [(each.name, [entries[key] for key in each.ids]) for each in scenarios], snapshot, event_of(shown)
        )

    # --- the requests -----------------------------------------------------------------------------------

    def _single(self) -> Scenario:
        """Request snapshots of three contacts, each with its own message on the interactive queue."""
        own = {self._fields.contact["organizationId"]: self._organization}
        contacts = self._database[self._names.contacts_collection].find(own).limit(3)
        scenario = Scenario("single")
        for contact in contacts:
            receipt = self._service.submit(
                self._new_request(
                    contact["_id"], notes="A good closing", tags=["demo"], quality="good", category="support"
                )
            )
            scenario.ids.append(receipt.id)
        return scenario

    def _chunk(self) -> Scenario:
        """Request a snapshot of every conversation in one insert and one message. One conversation is empty."""
        own = {self._fields.conversation["organizationId"]: self._organization}
        fields = self._fields.conversation.projection(["contactId"])
        found = self._database[self._names.conversations_collection].find(own, fields)
        requests = [
            self._new_request(each["contactId"], BULK, conversationId=str(each["_id"]), tags=["demo", "all"])
            for each in found
        ]
        receipts = [each for each in self._service.accept(requests) if isinstance(each, Receipt)]
        self._service.enqueue(receipts)
        return Scenario("chunk", [each.id for each in receipts])

    def _retried(self, late: Document) -> Scenario:
        """Request a snapshot of a contact that does not exist yet, so that the request is retried."""
        return Scenario("retried", [self._service.submit(self._new_request(late["_id"])).id])

    def _failing(self) -> Scenario:
        """Request a message that does not exist."""
        own = {self._fields.contact["organizationId"]: self._organization}
        contact = self._database[self._names.contacts_collection].find_one(own)
        if contact is None:
            raise SnapshotError("The sample conversations were not imported.")
        return Scenario(
            "failing", [self._service.submit(self._new_request(contact["_id"], messageIds=[str(ObjectId())])).id]
        )

    def _new_request(self, contact: ObjectId, queue: str = INTERACTIVE, **body: Any) -> NewRequest:
        whole = {"organizationId": self._organization, "contactId": contact, **body}
        return NewRequest(SnapshotRequest.read(whole, self._names), uuid4().hex, "client", queue)

    # --- the outcomes -----------------------------------------------------------------------------------

    def _wait(
        self, scenarios: list[Scenario], progress: Progress, late_at: float, late: Document
    ) -> Mapping[ObjectId, LedgerEntry]:
        ids = [key for scenario in scenarios for key in scenario.ids]
        entries: dict[ObjectId, LedgerEntry] = {}
        inserted = False
        for _ in _until(time.monotonic() + TIMEOUT_SECONDS):
            if not inserted and time.monotonic() > late_at:
                inserted = True
                self._insert_contact(late)
            entries = {each["_id"]: each for each in self._service.ledger.load(ids)}
            finished = sum(not is_open(each) and not is_unsent(each) for each in entries.values())
            progress(finished, len(ids))
            if finished == len(ids) and not self._service.ledger.outbox.contains_any(ids):
                return entries
        raise SnapshotError(f"Only {finished} of {len(ids)} requests finished within {TIMEOUT_SECONDS:g} s.")

    def _insert_contact(self, contact: Document) -> None:
        message = {"_id": ObjectId(), "organizationId": self._organization, "contactId": contact["_id"]}
        text = {"content": "Sorry, I am late", "direction": "inbound", "createdAt": self._service.clock.now()}
        self._database[self._names.messages_collection].insert_one(self._fields.message.stored(message | text))
        self._database[self._names.contacts_collection].insert_one(self._fields.contact.stored(contact))


def _until(deadline: float) -> Iterator[None]:
    while time.monotonic() < deadline:
        yield
        time.sleep(0.1)
