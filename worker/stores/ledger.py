"""The request ledger: one document per request, the durable truth of what was accepted and what became of it.

    accepted ──complete──▶ completed
       ▲  └──────fail────▶ failed
       └──────redrive────────┘   (round + 1)

Every write is majority and journaled, but for those that say otherwise. Field names are DESIGN section 3's.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bson import ObjectId
from pymongo import UpdateOne, WriteConcern
from pymongo.client_session import ClientSession
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError, PyMongoError
from pymongo.read_concern import ReadConcern

from worker.domain.requests import ACCEPTED, COMPLETED, FAILED
from worker.errors import AcceptUnknown, ParentNotYetThere, SnapshotError
from worker.stores.connections import Connections, Document, store_errors

_DUPLICATE_KEY = 11000
_READ_BACKS = 10
"""Times that an unsure accept is read back, over half a second: another's insert may not be at majority yet."""

OPEN: Document = {"status": ACCEPTED, "unsent": None, "finishedAt": None}
"""Requests in flight, as the beginning of the index over a request's life."""

Key = tuple[ObjectId, str]
"""Organization and request id."""


@dataclass(frozen=True, slots=True)
class Completion:
    """A request that becomes completed: what its entry says from then on."""

    entry: Mapping[str, Any]
    fields: Mapping[str, Any]
    """`snapshotId`, `messageCount`, and `unchanged` where no copy was made."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that becomes failed, and why."""

    entry: Mapping[str, Any]
    error: SnapshotError


class LedgerMoved(SnapshotError):
    """Entries are no longer as they were loaded: another run decided them; load again."""

    code = "ledger_moved"


class Ledger:
    """The collection of requests. Its reads are of the primary."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    @property
    def collection(self) -> Collection[Document]:
        return self._connections.database[self._connections.settings.requests_collection]

    @property
    def at_majority(self) -> Collection[Document]:
        """Reads what no failover takes back."""
        return self.collection.with_options(read_concern=ReadConcern("majority"))

    # --- accept ---------------------------------------------------------------------------------------

    def insert(self, entries: Sequence[Document]) -> dict[Key, Document]:
        """Inserts new entries in one command; what is in the ledger for each key then, new or from before.

        A key is missing from the answer where it is not known to be durable: neither inserted without an error
        nor read back at majority. Raises AcceptUnknown only where no key is known.
        """
        if not entries:
            return {}
        wanted = {key_of(each): each for each in entries}
        doubtful: set[Key] = set()
        try:
            self.collection.insert_many(entries, ordered=False)
        except BulkWriteError as error:
            details = error.details or {}
            failed = details.get("writeErrors", [])
            unsure = details.get("writeConcernErrors") or any(each["code"] != _DUPLICATE_KEY for each in failed)
            doubtful = set(wanted) if unsure else {key_of(entries[each["index"]]) for each in failed}
        except PyMongoError:
            doubtful = set(wanted)
        known = {key: entry for key, entry in wanted.items() if key not in doubtful}
        for attempt in range(_READ_BACKS):
            if not (left := doubtful - set(known)):
                break
            time.sleep(0.01 * attempt)
            try:
                known |= self._read_back(left)
            except AcceptUnknown:
                if not known:
                    raise
                break
        return known

    def _read_back(self, keys: Iterable[Key]) -> dict[Key, Document]:
        """Entries of these keys, from the primary at majority; none of them where it cannot be reached."""
        conditions = [{"organizationId": organization, "requestId": name} for organization, name in keys]
        try:
            with store_errors():
                return {key_of(each): each for each in self.at_majority.find({"$or": conditions})}
        except SnapshotError as error:
            raise AcceptUnknown from error

    # --- run ------------------------------------------------------------------------------------------

    def load(self, ids: Sequence[ObjectId]) -> list[Document]:
        """The entries of these ids, as they are at majority, in no order; ids that are unknown are missing.

        An outcome that is not at majority may still be rolled back: its event must not go out.
        """
        with store_errors():
            return list(self.at_majority.find({"_id": {"$in": list(ids)}}, batch_size=len(ids) + 1))

    def decide(
        self, completions: Sequence[Completion], failures: Sequence[Failure], at: datetime, session: ClientSession
    ) -> list[Document]:
        """Accepted entries become completed or failed, unsent, within the transaction of `session`.

        Gives the entries as they are then. Raises LedgerMoved where fewer match than were sent.
        """
        decided = [
            {**each.entry, "status": COMPLETED, "finishedAt": at, "unsent": True, **each.fields} for each in completions
        ]
        decided += [
            {**each.entry, "status": FAILED, "finishedAt": at, "unsent": True, "error": each.error.outcome()}
            for each in failures
        ]
        with store_errors():
            matched = self._complete([each for each in decided if each["status"] == COMPLETED], at, session)
            if failures:
                updates = [_fail(each) for each in decided if each["status"] == FAILED]
                matched += self.collection.bulk_write(updates, ordered=False, session=session).matched_count
            kept = {each["snapshotId"] for each in decided if each.get("unchanged")}
            matched += self._keep(kept, session) if kept else 0
        if matched != len(decided) + len(kept):
            raise LedgerMoved
        return decided

    def _keep(self, snapshots: set[ObjectId], session: ClientSession) -> int:
        """Of these snapshots, which others point to from now on, how many are not deleted.

        A write, because only writes conflict: else a deletion could commit between this and the transaction's end.
        """
        condition = {"_id": {"$in": list(snapshots)}, "status": COMPLETED, "deletedAt": None}
        return self.collection.update_many(condition, {"$inc": {"repeats": 1}}, session=session).matched_count

    def _complete(self, decided: list[Document], at: datetime, session: ClientSession) -> int:
        """One update for all of a round: what differs by entry is looked up by its place in the list, which the
        server does by a hash. A third of the time that an update each takes."""
        matched = 0
        for round_, ids in _by_round(decided).items():
            mine = [each for each in decided if each["round"] == round_]
            place = {"$indexOfArray": [{"$literal": ids}, "$_id"]}
            fields: Document = {"status": COMPLETED, "finishedAt": at, "unsent": True}
            for name in ("snapshotId", "messageCount", "unchanged"):
                values = [each.get(name) for each in mine]
                if values == ids:
                    fields[name] = "$_id"  # a ninth less time than to look it up
                elif any(value is not None for value in values):
                    fields[name] = {"$ifNull": [{"$arrayElemAt": [{"$literal": values}, place]}, "$$REMOVE"]}
            change: list[Document] = [{"$set": fields}, {"$unset": ["unended", "unendedRuns"]}]
            condition = {"_id": {"$in": ids}, "status": ACCEPTED, "round": round_}
            matched += self.collection.update_many(condition, change, session=session).matched_count
        return matched

    def finish(self, entries: Sequence[Mapping[str, Any]], *, weakly: bool = True) -> None:
        """The events of these entries are out. Weaker than the rest: losing it repeats an event."""
        written = self.collection.with_options(write_concern=WriteConcern(w=1)) if weakly else self.collection
        change = {"$unset": {"unsent": ""}, "$set": {"sentAt": self._connections.clock.now()}}
        with store_errors():
            for round_, ids in _by_round(entries).items():
                written.update_many({"_id": {"$in": ids}, "round": round_, "unsent": True}, change)

    def begin_repeated(self, ids: Sequence[ObjectId], run: ObjectId) -> None:
        """A repeated delivery begins: it counts as unended until it ends. `run` makes begin and end repeatable."""
        condition = {"_id": {"$in": list(ids)}, "status": ACCEPTED, "unendedRuns": {"$ne": run}}
        with store_errors():
            self.collection.update_many(condition, {"$inc": {"unended": 1}, "$push": {"unendedRuns": run}})

    def end_repeated(self, ids: Sequence[ObjectId], run: ObjectId) -> None:
        """It ended, by success or by an exception, also by one that left open whether it had begun."""
        condition = {"_id": {"$in": list(ids)}, "unendedRuns": run}
        with store_errors():
            self.collection.update_many(condition, {"$inc": {"unended": -1}, "$pull": {"unendedRuns": run}})

    def postpone(
        self, entries: Sequence[Mapping[str, Any]], due: datetime, error: SnapshotError, *, counts: bool
    ) -> None:
        """An attempt failed; the next is due then. Keeps the reason, and counts it if the request alone was tried."""
        change = {
            "$set": {"enqueuedAt": due, "lastError": error.outcome()},
            "$inc": {"attempts": int(counts), "awaited": int(counts and isinstance(error, ParentNotYetThere))},
        }
        with store_errors():
            for round_, ids in _by_round(entries).items():
                self.collection.update_many({"_id": {"$in": ids}, "status": ACCEPTED, "round": round_}, change)

    # --- redrive, delete --------------------------------------------------------------------------------

    def redrive(self, ids: Sequence[ObjectId], at: datetime, queue: str) -> list[Document]:
        """Failed, sent entries become accepted again, one round further; gives those of `ids` that are, now."""
        condition = {"_id": {"$in": list(ids)}, "status": FAILED, "unsent": None, "contactId": {"$exists": True}}
        change = {
            "$set": {"status": ACCEPTED, "unended": 0, "queue": queue, "enqueuedAt": at, "redrivenAt": at},
            "$inc": {"round": 1},
            "$unset": dict.fromkeys(
                ("error", "finishedAt", "sentAt", "attempts", "awaited", "lastError", "swept", "unendedRuns"), ""
            ),
        }
        with store_errors():
            self.collection.update_many(condition, change)
            return list(self.collection.find({"_id": {"$in": list(ids)}, "redrivenAt": at, "status": ACCEPTED}))

    def mark_deleted(self, organization: ObjectId, snapshot: ObjectId, at: datetime, session: ClientSession) -> bool:
        """The snapshot goes, within `session`'s transaction; whether there was an entry to say so."""
        condition = {"snapshotId": snapshot, "_id": snapshot, "organizationId": organization, "deletedAt": None}
        with store_errors():
            return self.collection.update_one(condition, {"$set": {"deletedAt": at}}, session=session).matched_count > 0


def key_of(entry: Mapping[str, Any]) -> Key:
    return entry["organizationId"], entry["requestId"]


def _fail(decided: Document) -> UpdateOne:
    fields = {name: decided[name] for name in ("status", "finishedAt", "unsent", "error")}
    condition = {"_id": decided["_id"], "status": ACCEPTED, "round": decided["round"]}
    return UpdateOne(condition, {"$set": fields, "$unset": {"unended": "", "unendedRuns": ""}})


def _by_round(entries: Iterable[Mapping[str, Any]]) -> dict[int, list[ObjectId]]:
    rounds: dict[int, list[ObjectId]] = {}
    for entry in entries:
        rounds.setdefault(entry["round"], []).append(entry["_id"])
    return rounds
