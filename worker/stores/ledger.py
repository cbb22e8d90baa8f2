"""The request ledger: one document per request, the durable record of what was accepted and of its outcome.

    accepted ──complete──▶ completed
       ▲  └──────fail────▶ failed
       └──────redrive────────┘   (round + 1)

Every write has write concern majority and is journaled, unless its docstring says otherwise. The fields are those of
`worker.domain.ledger_entry.LedgerEntry`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from bson import ObjectId
from pymongo import UpdateOne, WriteConcern
from pymongo.client_session import ClientSession
from pymongo.collection import Collection
from pymongo.read_concern import ReadConcern

from worker.domain.ledger_entry import (
    ACCEPTED,
    COMPLETED,
    ERASING,
    HAS_SNAPSHOT,
    NEVER,
    PERSONAL,
    LedgerEntry,
    as_failed,
    failure_fields,
    is_open,
    is_unsent,
    with_fields,
)
from worker.errors import ContactErased, ParentMissing, SnapshotError
from worker.stores.connections import Connections, Document, store_errors
from worker.stores.outbox import FEWEST, Decision, Outbox

Key = tuple[ObjectId, str]  # organization and request id: the idempotency key


@dataclass(frozen=True, slots=True)
class CompletionDecision:
    """The decision to complete a request, with the fields of its outcome."""

    entry: LedgerEntry
    fields: Mapping[str, Any]
    """`snapshotId`, `messageCount`, and `unchanged` if an earlier snapshot has the same content. With redaction also
    `redaction`, and the fields of the request that were redacted."""


@dataclass(frozen=True, slots=True)
class FailureDecision:
    """The decision to fail a request, with the error that it gets."""

    entry: LedgerEntry
    error: SnapshotError


class LedgerConflict(SnapshotError):
    """Another run has changed these entries since they were loaded; load them again."""

    code = "ledger_moved"


class Ledger:
    """The ledger's collection, read from the primary. Methods raise StoreUnavailable and StoreConflict."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self.outbox = Outbox(connections)

    @property
    def collection(self) -> Collection[LedgerEntry]:
        """The ledger's collection, journaled and with write concern majority."""
        return ledger_of(self._connections)

    @property
    def at_majority(self) -> Collection[LedgerEntry]:
        """The collection at read concern `majority`: a failover cannot roll back what it returns."""
        return self.collection.with_options(read_concern=ReadConcern("majority"))

    # --- run ------------------------------------------------------------------------------------------

    def load(self, ids: Sequence[ObjectId]) -> list[LedgerEntry]:
        """Return the entries of these ids, in no particular order; unknown ids are omitted.

        Entries without an outcome are those of the primary, which may not be at majority yet
        (`worker.stores.acceptance`). Outcomes are read at majority, because the event of one that could still be rolled
        back must not be emitted.
        """
        with store_errors():
            found = _find(self.collection.with_options(read_concern=ReadConcern("local")), ids)
            decided = [entry["_id"] for entry in found if not is_open(entry)]
            if not decided:
                return found
            return [entry for entry in found if is_open(entry)] + _find(self.at_majority, decided)

    def decide(
        self,
        completions: Sequence[CompletionDecision],
        failures: Sequence[FailureDecision],
        at: datetime,
        session: ClientSession,
    ) -> list[LedgerEntry]:
        """Complete and fail accepted entries within the transaction of `session`, and mark their events as unsent.

        A large number of completions is recorded as one document of the outbox; all other entries get `unsent`. Returns
        the changed entries. Raises LedgerConflict if one of them has changed since it was loaded.
        """
        outcome: Document = {"status": COMPLETED, "finishedAt": at}
        if len(completions) < FEWEST:
            outcome["unsent"] = True
        decided = [with_fields(each.entry, **outcome, **each.fields) for each in completions]
        decided += [as_failed(each.entry, at, each.error) for each in failures]
        with store_errors():
            names = list(dict.fromkeys(name for each in completions for name in each.fields))
            completed = [each for each in decided if each["status"] == COMPLETED]
            matched = self._complete(completed, outcome, names, session)
            if failures:
                updates = [_fail(each, at) for each in failures]
                matched += self.collection.bulk_write(updates, ordered=False, session=session).matched_count
            reused = {each["snapshotId"] for each in decided if each.get("unchanged")}
            matched += self._count_reuse(reused, session) if reused else 0
        if matched != len(decided) + len(reused):
            raise LedgerConflict
        if len(completions) >= FEWEST:
            self.outbox.add([each.entry["_id"] for each in completions], at, session)
        return decided

    def _count_reuse(self, snapshots: set[ObjectId], session: ClientSession) -> int:
        """Count these snapshots as reused; return how many of them are not deleted.

        It is a write because only writes conflict: otherwise a deletion could commit before the transaction ends.
        """
        condition = {"_id": {"$in": list(snapshots)}, "status": COMPLETED, "deletedAt": None}
        return self.collection.update_many(condition, {"$inc": {"repeats": 1}}, session=session).matched_count

    def _complete(
        self, decided: list[LedgerEntry], outcome: Document, names: Sequence[str], session: ClientSession
    ) -> int:
        """Complete entries with one update per round, in a third of the time that an update per entry takes.

        `names`: the fields whose values differ between entries. An entry that has such a field from its request keeps
        it.

        The server looks the values up by the position of the entry's id in a list, which it hashes.
        """
        matched = 0
        for round_, ids in _by_round(decided).items():
            entries = [entry for entry in decided if entry["round"] == round_]
            place = {"$indexOfArray": [{"$literal": ids}, "$_id"]}
            fields = dict(outcome)
            for name in names:
                values = [entry.get(name) for entry in entries]
                if values == ids:
                    fields[name] = "$_id"  # a ninth faster than the lookup
                elif any(value is not None for value in values):
                    fields[name] = {"$ifNull": [{"$arrayElemAt": [{"$literal": values}, place]}, "$$REMOVE"]}
            change: list[Document] = [{"$set": fields}, {"$unset": ["unended", "unendedRuns"]}]
            condition = {"_id": {"$in": ids}, "status": ACCEPTED, "round": round_}
            matched += self.collection.update_many(condition, change, session=session).matched_count
        return matched

    def finish(self, entries: Sequence[LedgerEntry], *, weakly: bool = True) -> None:
        """Record that the events of these entries are in the stream.

        `weakly`: do not wait for a majority, because losing this write only repeats an event.
        """
        ledger = self.collection.with_options(write_concern=WriteConcern(w=1)) if weakly else self.collection
        change = {"$unset": {"unsent": ""}, "$set": {"sentAt": self._connections.clock.now()}}
        with store_errors():
            for round_, ids in _by_round(filter(is_unsent, entries)).items():
                ledger.update_many({"_id": {"$in": ids}, "round": round_, "unsent": True}, change)
        if noted := [entry["_id"] for entry in entries if not is_unsent(entry)]:
            self.outbox.remove(noted, weakly=weakly)

    def finish_late(self, decisions: Sequence[Decision]) -> None:
        """Record durably that the sweep has emitted the events of these decisions, and when."""
        ids = [request for decision in decisions for request in decision.requests]
        with store_errors():
            self.collection.update_many({"_id": {"$in": ids}}, {"$set": {"sentAt": self._connections.clock.now()}})
        self.outbox.remove([decision.id for decision in decisions], weakly=False)

    def add_unended(self, ids: Sequence[ObjectId], run: ObjectId) -> None:
        """Add one to `unended` of these requests. `run`, the id of the run, makes the call idempotent."""
        condition = {"_id": {"$in": list(ids)}, "status": ACCEPTED, "unendedRuns": {"$ne": run}}
        with store_errors():
            self.collection.update_many(condition, {"$inc": {"unended": 1}, "$push": {"unendedRuns": run}})

    def remove_unended(self, ids: Sequence[ObjectId], run: ObjectId) -> None:
        """Undo `add_unended` for a run that has ended after all. Requests that it did not count stay unchanged."""
        condition = {"_id": {"$in": list(ids)}, "unendedRuns": run}
        with store_errors():
            self.collection.update_many(condition, {"$inc": {"unended": -1}, "$pull": {"unendedRuns": run}})

    def mark_not_enqueued(self, entries: Iterable[LedgerEntry]) -> None:
        """Let the next sweep enqueue these requests, because their wake-ups could not be published."""
        condition = {"_id": {"$in": [entry["_id"] for entry in entries]}, "status": ACCEPTED}
        with store_errors():
            self.collection.update_many(condition, {"$set": {"enqueuedAt": NEVER}})

    def postpone(self, entries: Sequence[LedgerEntry], due: datetime, error: SnapshotError, *, counts: bool) -> None:
        """Record a failed attempt, its reason, and when the next one is due.

        `counts`: whether to count it as an attempt, which is right for a request that was attempted alone.
        """
        change = {
            "$set": {"enqueuedAt": due, "lastError": error.outcome()},
            "$inc": {"attempts": int(counts), "awaited": int(counts and isinstance(error, ParentMissing))},
        }
        with store_errors():
            for round_, ids in _by_round(entries).items():
                self.collection.update_many({"_id": {"$in": ids}, "status": ACCEPTED, "round": round_}, change)

    # --- delete -----------------------------------------------------------------------------------------

    def mark_deleted(
        self, organization: ObjectId, snapshot: ObjectId, at: datetime, session: ClientSession
    ) -> LedgerEntry | None:
        """Record the deletion of a snapshot within the transaction of `session`; return its entry, or None."""
        condition = {"_id": snapshot, "organizationId": organization, **HAS_SNAPSHOT}
        with store_errors():
            return self.collection.find_one_and_update(condition, {"$set": {"deletedAt": at}}, session=session)


def ledger_of(connections: Connections) -> Collection[LedgerEntry]:
    """Return the ledger's collection, whose documents are LedgerEntry.

    Aggregations return other documents, and use `Connections.database`.
    """
    return cast("Collection[LedgerEntry]", connections.database[connections.settings.requests_collection])


def _find(collection: Collection[LedgerEntry], ids: Sequence[ObjectId]) -> list[LedgerEntry]:
    return list(collection.find({"_id": {"$in": list(ids)}}, batch_size=len(ids) + 1))


def key_of(entry: LedgerEntry) -> Key:
    """Return the idempotency key of an entry: its organization and its request id."""
    return entry["organizationId"], entry["requestId"]


def _fail(decision: FailureDecision, at: datetime) -> UpdateOne:
    entry, fields = decision.entry, failure_fields(at, decision.error)
    condition = {"_id": entry["_id"], "status": ACCEPTED, "round": entry["round"]}
    if not isinstance(decision.error, ContactErased):
        return UpdateOne(condition, {"$set": fields, "$unset": {"unended": "", "unendedRuns": ""}})
    removed = dict.fromkeys(("unended", "unendedRuns", *PERSONAL), "")
    del removed["contactId"]
    return UpdateOne(condition, {"$set": fields, "$unset": removed, "$rename": {"contactId": ERASING}})


def _by_round(entries: Iterable[LedgerEntry]) -> dict[int, list[ObjectId]]:
    rounds: dict[int, list[ObjectId]] = {}
    for entry in entries:
        rounds.setdefault(entry["round"], []).append(entry["_id"])
    return rounds
