"""Legal holds: contacts who must not be erased until a date, with the reason."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bson import ObjectId
from pymongo import UpdateOne
from pymongo.client_session import ClientSession
from pymongo.collection import Collection

from worker.clock import to_json
from worker.errors import ContactErased, NotFound, Refused
from worker.service import Service
from worker.stores.connections import Document, in_transaction, store_errors
from worker.stores.tombstones import Person


class LegalHold(Refused):
    """The contact is under a legal hold and cannot be erased."""

    code = "legal_hold"


@dataclass(frozen=True, slots=True)
class Hold:
    """A legal hold: the contact must not be erased before `until`."""

    organization: ObjectId
    contact: ObjectId
    reason: str
    until: datetime
    set_at: datetime

    @classmethod
    def read(cls, document: Document) -> "Hold":
        """Read a document of the collection."""
        ids = document["organizationId"], document["contactId"]
        return cls(*ids, document["reason"], document["until"], document["setAt"])

    def as_fields(self) -> dict[str, Any]:
        """Return the hold as a JSON object with camelCase names."""
        ids = {"organizationId": self.organization, "contactId": self.contact}
        return {**ids, "reason": self.reason, "until": self.until, "setAt": self.set_at}


class Holds:
    """The collection of legal holds. All methods raise StoreUnavailable, StoreConflict.

    Example:
        Holds(service()).set((organization, contact), "lawsuit 12-345", until=datetime(2027, 6, 30, tzinfo=UTC))
    """

    def __init__(self, service: Service) -> None:
        self._service = service

    @property
    def collection(self) -> Collection[Document]:
        """The collection `snapshotholds`."""
        return self._service.connections.database[self._service.settings.holds_collection]

    def set(self, person: Person, reason: str, until: datetime) -> Hold:
        """Set the hold on a contact, or replace it.

        Args:
            person: The organization and the contact.
            reason: Why the contact must not be erased. It is shown to everyone who tries.
            until: When the hold ends, aware.

        Raises:
            ContactErased: The contact is erased or being erased.
        """
        hold = Hold(*person, reason, until, self._service.clock.now())

        def write(session: ClientSession) -> None:
            if self._service.tombstones.erased([person], session):
                raise ContactErased
            self.collection.delete_many(_of(person), session=session)
            self.collection.insert_one({"_id": _key(person), **hold.as_fields()}, session=session)

        in_transaction(self._service.connections, write)
        return hold

    def list(self, organization: ObjectId | None = None, session: ClientSession | None = None) -> Sequence[Hold]:
        """Return the holds of an organization that have not ended, sorted by their end, earliest first.

        `organization`: None for all organizations. `session`: to read within its transaction.
        """
        condition: Document = {"until": {"$gt": self._service.clock.now()}}
        if organization:
            condition["organizationId"] = organization
        with store_errors():
            return [Hold.read(each) for each in self.collection.find(condition, session=session).sort("until", 1)]

    def lift(self, person: Person) -> None:
        """End the hold on a contact now. Raises NotFound if the contact has none."""
        with store_errors():
            if not self.collection.delete_many(_of(person)).deleted_count:
                raise NotFound("This contact has no hold.")

    def check(self, person: Person, session: ClientSession | None = None) -> None:
        """Raise LegalHold if the contact must not be erased now. Its message has the reason and the end of the hold.

        `session`: read within its transaction.
        """
        now = self._service.clock.now()
        with store_errors():
            found = self.collection.find_one({**_of(person), "until": {"$gt": now}}, session=session)
        if found:
            raise LegalHold(reason=found["reason"], until=to_json(found["until"]))

    def is_set_since(self, person: Person, at: datetime) -> bool:
        """Return whether the contact is under a hold that was set after `at`."""
        which = {**_of(person), "setAt": {"$gt": at}, "until": {"$gt": self._service.clock.now()}}
        with store_errors():
            return self.collection.find_one(which, {"_id": 1}) is not None

    def remove(self, person: Person, session: ClientSession) -> None:
        """Remove the ended hold on an erased contact, because it names the contact.

        It writes even if there is none, so that the transaction conflicts with one that sets a hold at the same time.
        """
        key = {"_id": _key(person)}
        with store_errors():
            self.collection.delete_many(_of(person), session=session)
            self.collection.insert_one(dict(key), session=session)
            self.collection.delete_one(key, session=session)

    def exclude(self, people: Iterable[Person], session: ClientSession) -> None:
        """Make this transaction conflict with one that sets a hold on any of these people at the same time.

        Otherwise a hold that is set after the transaction has read the holds would not count.
        """
        keys = [_key(person) for person in people]
        if keys:
            mark: Any = {"$set": {"excludedBy": ObjectId()}}
            with store_errors():
                self.collection.bulk_write(
                    [UpdateOne({"_id": key}, mark, upsert=True) for key in keys], session=session
                )
                self.collection.delete_many({"_id": {"$in": keys}, "until": None}, session=session)


def _key(person: Person) -> str:
    """Return the `_id` of a person's hold. Those of earlier versions have another one."""
    return f"{person[0]}:{person[1]}"


def _of(person: Person) -> Document:
    return {"organizationId": person[0], "contactId": person[1]}
