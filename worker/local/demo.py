"""The demonstration: sample conversations, requests of every kind, and what became of them. No printing."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.resources import as_file, files
from typing import Any
from uuid import uuid4

from bson import ObjectId

from worker.domain.requests import ACCEPTED, SnapshotRequest
from worker.errors import SnapshotError
from worker.importing import import_files
from worker.service import Asked, Receipt, Service
from worker.stores import indexes
from worker.stores.connections import Document
from worker.stores.events import event_of
from worker.stores.wakeups import BULK, INTERACTIVE

Progress = Callable[[int, int], None]
"""Called with how many requests are finished, and of how many."""

PATIENCE = 60.0
_LATE = 1.5
"""Seconds after its request that the late contact comes."""


@dataclass
class Way:
    """One kind of request, and the ledger ids of those that were made."""

    name: str
    ids: list[ObjectId] = field(default_factory=list)


@dataclass(frozen=True)
class Shown:
    """What there is to show: the ledger's entries by way, one snapshot, its event."""

    ways: list[tuple[str, list[Document]]]
    snapshot: Document
    event: dict[str, Any]

    @property
    def as_expected(self) -> bool:
        """All completed, but for the empty conversation and the missing message."""
        codes = [each["error"]["code"] for _, entries in self.ways for each in entries if each.get("error")]
        return sorted(codes) == ["empty_conversation", "messages_not_found"]


class Demo:
    """Makes the requests and waits for their outcomes."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._organization = ObjectId()
        self._database = service.connections.database
        self._names = service.settings

    def __call__(self, progress: Progress) -> Shown:
        """Raises SnapshotError where a server fails, or the outcomes do not come within a minute."""
        indexes.ensure(self._service.connections)
        with as_file(files("worker") / "local" / "samples" / "conversations.jsonl") as path:
            import_files([path], self._organization, self._service.connections)
        late = {"_id": ObjectId(), "organizationId": self._organization, "firstName": "Late", "lastName": "Comer"}
        ways = [self._single(), self._chunk(), self._retried(late), self._failing()]
        late_at = time.monotonic() + _LATE
        entries = self._wait(ways, progress, late_at, late)
        shown = next(each for each in entries.values() if each["status"] == "completed" and each.get("notes"))
        snapshot = self._service.snapshots.get(self._organization, shown["snapshotId"])
        if snapshot is None:
            raise SnapshotError("A snapshot that its ledger entry names is not there.")
        return Shown([(way.name, [entries[key] for key in way.ids]) for way in ways], snapshot, event_of(shown))

    # --- the requests -----------------------------------------------------------------------------------

    def _single(self) -> Way:
        """Three contacts, a message each on the queue that someone waits for."""
        contacts = self._database[self._names.contacts_collection].find({"organizationId": self._organization}).limit(3)
        way = Way("single")
        for contact in contacts:
            receipt = self._service.submit(
                self._asked(contact["_id"], notes="A good closing", tags=["demo"], quality="good", category="support")
            )
            way.ids.append(receipt.id)
        return way

    def _chunk(self) -> Way:
        """One request for each conversation, in one insert and one message; one conversation is empty."""
        found = self._database[self._names.conversations_collection].find({"organizationId": self._organization})
        asked = [
            self._asked(each["contactId"], BULK, conversationId=str(each["_id"]), tags=["demo", "all"])
            for each in found
        ]
        receipts = [each for each in self._service.accept(asked) if isinstance(each, Receipt)]
        self._service.enqueue(receipts)
        return Way("chunk", [each.id for each in receipts])

    def _retried(self, late: Document) -> Way:
        """A contact that is not there yet: the request is retried until it comes."""
        return Way("retried", [self._service.submit(self._asked(late["_id"])).id])

    def _failing(self) -> Way:
        """A message that is nobody's."""
        contact = self._database[self._names.contacts_collection].find_one({"organizationId": self._organization})
        if contact is None:
            raise SnapshotError("The sample conversations were not imported.")
        return Way("failing", [self._service.submit(self._asked(contact["_id"], messageIds=[str(ObjectId())])).id])

    def _asked(self, contact: ObjectId, queue: str = INTERACTIVE, **body: Any) -> Asked:
        whole = {"organizationId": self._organization, "contactId": contact, **body}
        return Asked(SnapshotRequest.read(whole, self._names), uuid4().hex, "client", queue)

    # --- the outcomes -----------------------------------------------------------------------------------

    def _wait(self, ways: list[Way], progress: Progress, late_at: float, late: Document) -> Mapping[ObjectId, Document]:
        ids = [key for way in ways for key in way.ids]
        entries: dict[ObjectId, Document] = {}
        came = False
        for _ in _until(time.monotonic() + PATIENCE):
            if not came and time.monotonic() > late_at:
                came = True
                self._come(late)
            entries = {each["_id"]: each for each in self._service.ledger.load(ids)}
            finished = sum(each["status"] != ACCEPTED and not each.get("unsent") for each in entries.values())
            progress(finished, len(ids))
            if finished == len(ids):
                return entries
        raise SnapshotError(f"Only {finished} of {len(ids)} requests were finished within {PATIENCE:g} s.")

    def _come(self, contact: Document) -> None:
        message = {"_id": ObjectId(), "organizationId": self._organization, "contactId": contact["_id"]}
        said = {"content": "Sorry, I am late", "direction": "inbound", "createdAt": self._service.clock.now()}
        self._database[self._names.messages_collection].insert_one(message | said)
        self._database[self._names.contacts_collection].insert_one(contact)


def _until(deadline: float) -> Iterator[None]:
    while time.monotonic() < deadline:
        yield
        time.sleep(0.1)
