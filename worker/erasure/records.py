"""Removes a person's snapshots, and the person's data from ledger entries.

The ledger entries stay, with their ids, times and outcomes, so that the counts still add up.
"""

import re
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pymongo
from bson import MinKey, ObjectId
from pymongo.client_session import ClientSession

from worker.domain.ledger_entry import (
    ACCEPTED,
    ERASING,
    FINISHED,
    HAS_SNAPSHOT,
    IS_WHOLE,
    MADE_SNAPSHOT,
    PERSONAL,
    STATES,
    LedgerEntry,
    failure_fields,
)
from worker.domain.validation import MAX_REQUEST_ID
from worker.erasure.identifiers import Identifiers
from worker.errors import ContactErased
from worker.jobs.slices import Slice
from worker.service import Service
from worker.source.ids import stored_forms
from worker.stores.connections import Document, store_errors
from worker.stores.counts import record_changes, removals

_BATCH = 200
_WINDOW = 10_000
"""Ledger entries that one read examines, because no index has the contact: every request would pay for it."""
_MAX_SKEW = timedelta(hours=1)
"""How far the clocks of processes that accept requests, and so the times in their ids, may differ."""
_ID_BYTES = 12
IDS = ("ids", "mentioned")
"""Fields of the checkpoint: ids of snapshots that export files must no longer contain unchanged."""
PREFIX = "erased:"
"""Prefix of the request id that replaces one which contained the contact's id, e-mail address or phone number."""


class Records:
    """Removes the snapshots and the data in ledger entries of one person.

    All methods raise StoreUnavailable, StoreConflict, LeaseLost.
    """

    def __init__(self, service: Service, job_slice: Slice, person: Identifiers) -> None:
        self._service = service
        self._job_slice = job_slice
        self._person = person
        self._names = service.settings
        self._ledger = service.ledger.collection
        self._snapshots = service.snapshots.collection

    def fail_open(self) -> int:
        """Fail the requests in flight. Call it only once the tombstone is durable: see `Conversations.fetch`."""
        condition = {**self._of_contact, "status": ACCEPTED}
        # The content stays until `_scrubbed`, because the entries are found by it. The time limit is that of a run,
        # because the counts (`worker.stores.counts`) rely on a request's `finishedAt` being close to when it is
        # written.
        with store_errors(), pymongo.timeout(self._names.run_deadline.total_seconds()):
            failed = failure_fields(self._service.clock.now(), ContactErased())
            change = {"$set": failed, "$unset": {"unended": "", "unendedRuns": ""}}
            return self._ledger.update_many(condition, change).modified_count

    def remove(self, counts: Counter[str]) -> bool:
        """Remove snapshots and then the content of ledger entries, in batches; return whether nothing is left."""
        while not self._job_slice.is_over:
            with store_errors():
                snapshots = list(self._snapshots.find(self._of_snapshot, {"_id": 1}).limit(_BATCH))
            found = snapshots or self._next_entries()
            if found is None:
                return True
            if found:
                self._erase([each["_id"] for each in found], counts)
        return False

    def left(self) -> int:
        """Return the number of snapshots, and of ledger entries from the time of the removal, that name the contact.

        Older entries have been searched by `worker.erasure.search.Search`.
        """
        since = ObjectId.from_datetime(self._job_slice.checkpoint["removedAt"] - _MAX_SKEW)
        recent = {**self._of_entry, "status": {"$in": list(STATES)}, "_id": {"$gte": since}}
        with store_errors():
            entries = self._ledger.count_documents(recent)
            return entries + self._snapshots.count_documents(self._of_snapshot)

    @property
    def _of_contact(self) -> Document:
        return {"organizationId": self._person.organization, "contactId": self._person.contact}

    @property
    def _of_entry(self) -> Document:
        """The contact's requests, including those that a run has failed as erased."""
        contact = self._person.contact
        either = [{"contactId": contact}, {ERASING: contact}]
        return {"organizationId": self._person.organization, "$or": either}

    @property
    def _of_snapshot(self) -> Document:
        forms = {"$in": stored_forms([self._person.contact])}
        return {"organizationId": {"$in": stored_forms([self._person.organization])}, "contactId": forms}

    def _next_entries(self) -> list[LedgerEntry] | None:
        """Return the contact's entries in the next part of the ledger, at most `_BATCH`, or None at its end.

        The position is in the checkpoint, so that the next slice continues there.
        """
        state = self._job_slice.checkpoint
        ids: Document = {"$gt": state.get("entry", MinKey())}
        entries = {"organizationId": self._person.organization, **FINISHED, "_id": ids}
        with store_errors():
            ends = list(self._ledger.find(entries, {"_id": 1}).sort("_id", 1).skip(_WINDOW - 1).limit(1))
            if ends:
                ids["$lte"] = ends[0]["_id"]
            found = list(self._ledger.find({**entries, **self._of_entry}, {"_id": 1}).sort("_id", 1).limit(_BATCH))
        if not (found or ends):
            state.pop("entry", None)
            return None
        state["entry"] = (found if len(found) == _BATCH or not ends else ends)[-1]["_id"]
        return found

    def _erase(self, ids: Sequence[Any], counts: Counter[str]) -> None:
        """Remove a batch in one transaction with the checkpoint, which keeps the ids for the removal of files."""
        now = self._service.clock.now()
        state = self._job_slice.checkpoint
        with self._service.connections.transaction() as session:
            which = {"_id": {"$in": list(ids)}, "organizationId": self._person.organization, **FINISHED}
            changes = self._changes(which, ids, session)
            requests = self._ledger.update_many(which, self._scrubbed(now), session=session).modified_count
            removed = self._snapshots.delete_many({**self._of_snapshot, "_id": {"$in": list(ids)}}, session=session)
            record_changes(self._service.connections, session, changes)
            counts["requests"] += requests
            counts["snapshots"] += removed.deleted_count
            # Snapshots of the platform may have other ids.
            known = set(unpacked(state["ids"])) | {each for each in ids if isinstance(each, ObjectId)}
            state["ids"] = b"".join(key.binary for key in sorted(known))
            state["removed"] = dict(counts)
            self._job_slice.progress = {**self._job_slice.progress, "removed": dict(counts)}
            self._job_slice.save(session)

    def _changes(self, which: Document, ids: Sequence[ObjectId], session: ClientSession) -> list[Document]:
        """Return how the counts of a batch will change."""
        copies = {**self._of_snapshot, "_id": {"$in": list(ids)}}
        removed = self._snapshots.find(copies, {"requestId": 1}, session=session)
        marked = {**which, **HAS_SNAPSHOT}
        entries = self._ledger.find(marked, {"organizationId": 1, "finishedAt": 1}, session=session)
        return removals(self._person.organization, removed, entries)

    def _scrubbed(self, now: datetime) -> list[Document]:
        """Return the update that removes what the caller sent.

        If Redis may still have the event, it is emitted again without it, unless retention has stripped the entry of
        the event's fields.
        """
        recent = {"$gt": ["$finishedAt", now - self._names.events_retention]}
        has_event = {"$and": [recent, IS_WHOLE]}
        # An odd address may be longer than any request id, or have a NUL, which MongoDB refuses in an expression.
        texts = [text for text in self._person.texts if len(text) <= MAX_REQUEST_ID and "\0" not in text]
        known = (str(self._person.contact), *texts, *self._person.numbers)
        identifiers = "|".join(map(re.escape, known))
        named = {"$regexMatch": {"input": "$requestId", "regex": {"$literal": identifiers}, "options": "i"}}
        fields = {
            "bodyHash": "",
            "requestId": {"$cond": [named, {"$concat": [PREFIX, {"$toString": "$_id"}]}, "$requestId"]},
            "deletedAt": {"$cond": [MADE_SNAPSHOT, {"$ifNull": ["$deletedAt", now]}, "$$REMOVE"]},
            "unsent": {"$cond": [{"$or": [{"$eq": ["$unsent", True]}, has_event]}, True, "$$REMOVE"]},
            "error": {"$cond": [{"$eq": [{"$type": "$error"}, "object"]}, _without_details(), "$$REMOVE"]},
        }
        return [{"$set": fields}, {"$unset": [*PERSONAL, ERASING]}]


def _without_details() -> Document:
    return {"code": "$error.code", "message": "$error.message", "details": {"$literal": {}}}


def unpacked(ids: bytes) -> list[ObjectId]:
    """Read ids from the checkpoint, which holds 12 bytes for each."""
    return [ObjectId(ids[first : first + _ID_BYTES]) for first in range(0, len(ids), _ID_BYTES)]
