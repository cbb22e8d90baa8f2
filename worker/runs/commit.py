"""Commits a plan: writes the outcomes in one transaction, and records the postponed requests."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from bson import ObjectId

from worker.domain.assembly import Snapshot
from worker.domain.ledger_entry import FAILED, Failure, LedgerEntry, is_open, is_unsent
from worker.errors import PermanentError, StoreConflict, TransientError
from worker.runs.plan import Completion, Plan, Postponement, Unchanged
from worker.service import Service
from worker.stores.ledger import CompletionDecision, FailureDecision, LedgerConflict

_ATTEMPTS = 5
"""How often a transaction is attempted before its requests are postponed."""
_PAUSE_SECONDS = 0.02
"""Pause before the second attempt, growing with each. The other run's transaction is open for milliseconds, and its
result takes a little longer to be at majority."""


@dataclass(slots=True)
class Postponed:
    """Requests that one message will try again after a delay, and the error that postponed them."""

    ids: list[str]
    delay: timedelta
    error: TransientError


@dataclass
class RunResult:
    """The result of a run: what happened to the requests of its message."""

    completed: int = 0
    failed: int = 0
    postponed: list[Postponed] = field(default_factory=list)
    settled: set[ObjectId] = field(default_factory=set)
    """Requests that this run is done with: decided, postponed, or decided by another run."""
    failures: dict[ObjectId, Failure] = field(default_factory=dict)
    """The failed requests and their reasons, including those that another run decided."""

    def note_failures(self, entries: Iterable[LedgerEntry]) -> None:
        """Add the failed entries to `failures`, except those whose reason retention has removed."""
        for entry in entries:
            if entry["status"] == FAILED and "error" in entry:
                self.failures[entry["_id"]] = entry["error"]


class Committer:
    """Commits the plans of one run, and accumulates what happened to its requests in `result`.

    If a transaction conflicts, the requests that another run has decided are left out, and the others are tried again.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self.result = RunResult()

    def commit(self, plan: Plan) -> list[LedgerEntry]:
        """Write a plan; return the entries whose events must be emitted, including unsent ones of other runs.

        A document that breaks the transaction fails alone. Raises StoreConflict, StoreUnavailable: then the requests
        that are not in `result.settled` are not decided yet.
        """
        for postponement in plan.retries:
            self._postpone(postponement, counts=True)
        for postponement in plan.waiting:
            self._postpone(postponement, counts=False)
        return self._decide(plan.snapshots, plan.failures)

    # --- outcomes -------------------------------------------------------------------------------------

    def _decide(self, completions: Sequence[Completion], failures: Sequence[FailureDecision]) -> list[LedgerEntry]:
        """Decide in one transaction. After a conflict, leave out what another run decided, and try again."""
        unsent: list[LedgerEntry] = []
        reason = ""
        for attempt in range(_ATTEMPTS):
            if attempt:
                time.sleep(_PAUSE_SECONDS * attempt)
            if not completions and not failures:
                return unsent
            try:
                decided = self._write(completions, failures)
            except (LedgerConflict, StoreConflict) as error:
                reason = error.message
                open_, finished = self._reload([*completions, *failures])
                completions = [each for each in completions if each.entry["_id"] in open_]
                failures = [each for each in failures if each.entry["_id"] in open_]
                unsent += finished
            except PermanentError as error:
                return unsent + self._decide_singly(completions, failures, error)
            else:
                self.result.completed += len(completions)
                self.result.failed += len(failures)
                self.result.settled.update(entry["_id"] for entry in decided)
                self.result.note_failures(decided)
                return unsent + decided
        raise StoreConflict(reason)

    def _decide_singly(
        self, completions: Sequence[Completion], failures: Sequence[FailureDecision], error: PermanentError
    ) -> list[LedgerEntry]:
        """Decide each snapshot alone after one of them broke the transaction; that one fails with the error."""
        if not completions:
            raise StoreConflict(error.message)
        if len(completions) == 1 and not failures:
            return self._decide([], [FailureDecision(completions[0].entry, error)])
        decided = [entry for completion in completions for entry in self._decide([completion], [])]
        return decided + self._decide([], failures)

    def _write(self, completions: Sequence[Completion], failures: Sequence[FailureDecision]) -> list[LedgerEntry]:
        """Run the transaction, which only writes: to the ledger, the snapshots and, for a chunk, the outbox."""
        at = self._service.clock.now()
        documents = [each.snapshot.document for each in completions if isinstance(each.snapshot, Snapshot)]
        decisions = [CompletionDecision(each.entry, _fields(each)) for each in completions]
        with self._service.connections.transaction() as session:
            decided = self._service.ledger.decide(decisions, failures, at, session)
            if documents:
                self._service.snapshots.insert(documents, session)
        return decided

    def _reload(self, decisions: Sequence[Completion | FailureDecision]) -> tuple[set[ObjectId], list[LedgerEntry]]:
        """Load the entries again; return the ids of the unchanged ones, and the decided entries that may be unsent."""
        loaded = {each.entry["_id"]: each.entry for each in decisions}
        current = {entry["_id"]: entry for entry in self._service.ledger.load(list(loaded))}
        open_ = {
            key
            for key, entry in loaded.items()
            if key in current and is_open(current[key]) and current[key]["round"] == entry["round"]
        }
        self.result.settled.update(loaded.keys() - open_)
        self.result.note_failures(current.values())
        return open_, [entry for entry in current.values() if is_unsent(entry)]

    # --- retries --------------------------------------------------------------------------------------

    def _postpone(self, postponement: Postponement, *, counts: bool) -> None:
        """Record the delay in the ledger. Failed attempts with the same error share a message."""
        entries, delay, error = postponement.entries, postponement.delay, postponement.error
        self._service.ledger.postpone(entries, self._service.clock.now() + delay, error, counts=counts)
        self.result.settled.update(entry["_id"] for entry in entries)
        ids = [str(entry["_id"]) for entry in entries]
        same = [each for each in self.result.postponed if each.error.code == error.code]
        if counts and same:
            same[0].ids.extend(ids)
            same[0].delay = max(same[0].delay, delay)
        else:
            self.result.postponed.append(Postponed(ids, delay, error))


def _fields(completion: Completion) -> dict[str, Any]:
    snapshot = completion.snapshot
    fields = {**completion.redacted, "snapshotId": snapshot.id, "messageCount": snapshot.message_count}
    return fields | {"unchanged": True} if isinstance(snapshot, Unchanged) else fields
