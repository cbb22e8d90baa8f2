"""A run: what a worker does with the requests that one message names.

    load → fetch → plan (assemble) → commit (decide) → emit → finish

A chunk costs three reads (two more if it has closings), one transaction, one pipelined emit, and one update or
deletion, whatever its size. One bad request in it fails alone. Requests that cannot be decided now are postponed, to be
tried again by another message.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import chain

import pymongo
from bson import ObjectId

from worker.domain.assembly import Conversation
from worker.domain.ledger_entry import LedgerEntry, groups_by_suspicion, is_open, is_unsent
from worker.errors import (
    BrokerUnavailable,
    DeadlineExceeded,
    EarlierClosingUndecided,
    SnapshotError,
    StoreUnavailable,
    TaskInterrupt,
    TransientError,
    UnexpectedError,
    WorkerLost,
)
from worker.log import get_logger
from worker.runs.commit import Committer, RunResult
from worker.runs.plan import Plan, plan, plan_after_error, plan_untried
from worker.runs.redacting import ConversationRedactor
from worker.runs.supersede import ClosingOrder, order_closings
from worker.service import Service
from worker.source.conversations import Fetched
from worker.stores.ledger import FailureDecision

log = get_logger(__name__)

_END_SECONDS = 2
"""Time limit for the writes that follow a run whose record in Redis was missing."""
_POSTPONE_SECONDS = 2
"""Time limit for postponing requests once the run's own time is used up."""
_ROUND_TRIP_SECONDS = 0.1
"""The run counts as over this long before its deadline: PyMongo gives up if less than a round trip is left."""


class Run:
    """Processes the requests that one Celery message names.

    Example:
        result = Run(service())([ObjectId("6a1b2c3d4e5f60718293a4b5")])
        print(result.completed, result.failed, result.postponed)
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._settings = service.settings
        self._committer = Committer(service)
        self._redact = ConversationRedactor(service)
        self._stop_at = 0.0

    def __call__(self, ids: Sequence[ObjectId]) -> RunResult:
        """Decide the requests that can be decided within the run deadline, and postpone the others.

        Requests that may have killed a worker run after the others. Raises StoreUnavailable.
        """
        self._stop_at = time.monotonic() + self._settings.run_deadline.total_seconds()
        entries = self._load(ids)
        for group in groups_by_suspicion(entries):
            self._attempt_group(group)
        return self._committer.result

    # --- the straight line ----------------------------------------------------------------------------

    def _load(self, ids: Sequence[ObjectId]) -> list[LedgerEntry]:
        """Return the requests without an outcome; emit the events that an earlier run left unsent."""
        with self._deadline():
            entries = self._service.ledger.load(ids)
            self._emit([entry for entry in entries if is_unsent(entry)])
        self._committer.result.note_failures(entries)
        return [entry for entry in entries if is_open(entry)]

    def _attempt(self, entries: Sequence[LedgerEntry]) -> None:
        """Fetch, plan, commit, emit and finish.

        After a transient error, the undecided requests are postponed; after an unexpected one, they are attempted in
        halves, so that the request at fault holds up no other.
        """
        try:
            with self._deadline():
                order = order_closings(self._service, entries)
                for part in self._split_by_size(self._fetch(order)):
                    clean, redacted = self._redact(part)
                    planned = plan(clean, order.previous, self._service.clock.now(), self._settings, redacted)
                    self._emit(self._committer.commit(planned))
        except StoreUnavailable:
            # A read that is too slow ends with a socket timeout, just as if the server were down.
            if not self._is_over() or not self._service.connections.store_answers():
                raise
            self._postpone_rest(entries, DeadlineExceeded())
        except TransientError as error:
            self._postpone_rest(entries, error)
        except SnapshotError as error:
            log.error("attempt_failed", code=error.code, reason=error.message, requests=len(entries))
            self._postpone_rest(entries, UnexpectedError(f"{error.code}: {error.message}"))
        except Exception as error:
            if isinstance(error, TaskInterrupt):
                log.warning("attempt_interrupted", reason=type(error).__name__, requests=len(entries))
                self._postpone_rest(entries, DeadlineExceeded())
                return
            # The boundary: an unexpected error must also lead to an outcome of each request.
            left = self._undecided(entries)
            if len(left) > 1 and not self._is_over():
                log.warning("attempt_split", code="unexpected", reason=type(error).__name__, requests=len(left))
                for half in (left[: len(left) // 2], left[len(left) // 2 :]):
                    self._attempt(half)
                return
            log.exception("attempt_failed", code="unexpected", requests=len(entries))
            self._postpone_rest(entries, UnexpectedError(f"Unexpected {type(error).__name__}."))

    def _fetch(self, order: ClosingOrder) -> Iterator[Fetched]:
        waiting: Iterable[Fetched] = ((entry, EarlierClosingUndecided()) for entry in order.waiting)
        return chain(waiting, self._service.conversations.fetch(order.ready) if order.ready else ())

    def _split_by_size(self, fetched: Iterable[Fetched]) -> Iterator[list[Fetched]]:
        """Yield lists of up to `chunk_bytes` of messages, which are planned and committed together."""
        part: list[Fetched] = []
        size = 0
        for entry, found in fetched:
            part.append((entry, found))
            if isinstance(found, Conversation) and found.messages:
                size += len(found.messages.encoded)
            if size >= self._settings.chunk_bytes:
                yield part
                part, size = [], 0
        if part:
            yield part

    def _emit(self, entries: Sequence[LedgerEntry]) -> None:
        """Emit the events of these entries and finish them.

        If that fails, the sweep emits them, because `unsent` stays.
        """
        if not entries:
            return
        try:
            self._service.events.emit(entries)
            self._service.ledger.finish(entries)
        except BrokerUnavailable as error:
            log.warning("emit_failed", events=len(entries), reason=error.message)
        except TransientError as error:
            log.warning("finish_failed", events=len(entries), reason=error.message)

    # --- requests that may have killed a worker ---------------------------------------------------------

    def _attempt_group(self, entries: Sequence[LedgerEntry]) -> None:
        """Attempt requests together, or postpone them if the run is over; fail one that has killed too many workers."""
        unended = entries[0].get("unended", 0)
        if self._is_over():
            self._commit_apart(plan_untried(entries, DeadlineExceeded(), self._settings))
        elif unended >= self._settings.worker_lost_after:
            lost = [FailureDecision(entry, WorkerLost(deliveries=unended)) for entry in entries]
            with self._deadline():
                self._emit(self._committer.commit(Plan(failures=lost)))
        else:
            with self._recorded([entry["_id"] for entry in entries]):
                self._attempt(entries)

    @contextmanager
    def _recorded(self, keys: Sequence[ObjectId]) -> Iterator[None]:
        """Record the run while it lasts. If its process is killed, the record stays, and the sweep counts it."""
        run = ObjectId()
        try:
            self._service.run_records.begin(run, keys, self._service.clock.now())
        except BrokerUnavailable as error:
            log.warning("run_not_recorded", requests=len(keys), reason=error.message)
        try:
            yield
        finally:
            try:
                with pymongo.timeout(_END_SECONDS):
                    self._service.run_records.end(run, keys, self._service.ledger.remove_unended)
            except TransientError as error:
                log.warning("run_record_left", requests=len(keys), reason=error.message)

    # --- the deadline ---------------------------------------------------------------------------------

    def _deadline(self) -> AbstractContextManager[None]:
        """Limit PyMongo's operations to the rest of the run.

        A nested timeout can only shorten it; 0 would mean no limit.
        """
        return pymongo.timeout(max(0.001, self._stop_at - time.monotonic()))

    def _is_over(self) -> bool:
        return time.monotonic() >= self._stop_at - _ROUND_TRIP_SECONDS

    def _postpone_rest(self, entries: Sequence[LedgerEntry], error: TransientError) -> None:
        self._commit_apart(plan_after_error(self._undecided(entries), error, self._settings))

    def _undecided(self, entries: Sequence[LedgerEntry]) -> list[LedgerEntry]:
        """Return the requests that this run has neither decided nor postponed."""
        settled = self._committer.result.settled
        return [entry for entry in entries if entry["_id"] not in settled]

    def _commit_apart(self, planned: Plan) -> None:
        """Commit with a separate time limit, because the run's own may be used up."""
        with pymongo.timeout(_POSTPONE_SECONDS):
            self._emit(self._committer.commit(planned))
