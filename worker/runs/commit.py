"""Decide, emit, finish: what a run has made of its requests becomes their outcome, once.

One transaction holds the snapshots and the ledger's word that they are there; the events go out after it.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from bson import ObjectId

from worker.domain.assembly import Snapshot
from worker.domain.requests import ACCEPTED
from worker.errors import BrokerUnavailable, PermanentError, StoreConflict, TransientError
from worker.log import get_logger
from worker.runs.supersede import Unchanged
from worker.service import Service
from worker.stores.ledger import Completion, Failure, LedgerMoved

log = get_logger(__name__)

Entry = Mapping[str, Any]
Made = tuple[Entry, Snapshot | Unchanged]
_DECIDE_AGAIN = 5
"""Times that a chunk is loaded anew because another run decided some of it, before it is handed back."""
_DECIDE_PAUSE = 0.02
"""Seconds, growing: the other run's transaction is open for milliseconds, and then not at majority at once."""


@dataclass(slots=True)
class Postponed:
    """Requests to try again together."""

    ids: list[str]
    delay: timedelta
    error: TransientError


@dataclass
class Outcome:
    """What became of a message's requests."""

    completed: int = 0
    failed: int = 0
    postponed: list[Postponed] = field(default_factory=list)


class Decider:
    """Decides requests of one run. What it has decided is no longer in `undecided`, and counts in `outcome`."""

    def __init__(self, service: Service, undecided: dict[ObjectId, Entry], outcome: Outcome) -> None:
        self._service = service
        self._undecided = undecided
        self._outcome = outcome

    def __call__(self, made: list[Made], failures: list[Failure]) -> None:
        """One transaction; loads anew what another run decided meanwhile."""
        reason = ""
        for attempt in range(_DECIDE_AGAIN):
            if attempt:
                time.sleep(_DECIDE_PAUSE * attempt)
            made = [pair for pair in made if pair[0]["_id"] in self._undecided]
            failures = [each for each in failures if each.entry["_id"] in self._undecided]
            if not made and not failures:
                return
            try:
                decided = self._write(made, failures)
            except (LedgerMoved, StoreConflict) as error:
                reason = error.message
                self._reload([entry["_id"] for entry, _ in made] + [each.entry["_id"] for each in failures])
            except PermanentError as error:
                self._decide_apart(made, failures, error)
                return
            else:
                self._outcome.completed += len(made)
                self._outcome.failed += len(failures)
                for each in decided:
                    self._undecided.pop(each["_id"])
                self.emit(decided)
                return
        raise StoreConflict(reason)

    def _decide_apart(self, made: list[Made], failures: list[Failure], error: PermanentError) -> None:
        """A document broke the chunk: each is decided alone, and the one at fault fails."""
        if len(made) == 1 and not failures:
            self([], [Failure(made[0][0], error)])
            return
        if not made:
            raise StoreConflict(error.message)
        for pair in made:
            self([pair], [])
        if failures:
            self([], failures)

    def _write(self, made: list[Made], failures: list[Failure]) -> list[dict[str, Any]]:
        """Nothing but the two writes stands in the transaction."""
        at = self._service.clock.now()
        completions = [
            Completion(entry, {"snapshotId": one.id, "messageCount": one.message_count} | _unchanged(one))
            for entry, one in made
        ]
        documents = [one.document for _, one in made if isinstance(one, Snapshot)]
        with self._service.connections.transaction() as session:
            decided = self._service.ledger.decide(completions, failures, at, session)
            if documents:
                self._service.snapshots.insert(documents, session)
        return decided

    def _reload(self, ids: list[ObjectId]) -> None:
        """Entries that are no longer as loaded are no longer ours: their deciders emit them, or we do."""
        found = {each["_id"]: each for each in self._service.ledger.load(ids)}
        for key in ids:
            mine, now = self._undecided[key], found.get(key)
            if now is None or now["status"] != ACCEPTED or now["round"] != mine["round"]:
                del self._undecided[key]
        self.emit([each for each in found.values() if each.get("unsent")])

    def emit(self, entries: Sequence[Entry]) -> None:
        """Emits and finishes; where the broker is down, `unsent` stays, and the sweep emits."""
        if not entries:
            return
        try:
            self._service.events.emit(entries)
        except BrokerUnavailable as error:
            log.warning("emit_failed", events=len(entries), reason=error.message)
            return
        self._service.ledger.finish(entries)


def _unchanged(made: Snapshot | Unchanged) -> dict[str, Any]:
    return {"unchanged": True} if isinstance(made, Unchanged) else {}
