"""OpenTelemetry traces of requests, from their producer to their event. Off by default; needs the extra `otel`.

    producer ─▶ snapshots.accept ─▶ snapshots.run ─▶ load, fetch, assemble, decide, emit, finish
                       └ its `traceparent` is stored in the ledger entry and sent in the event

The ledger carries the trace across the queue, so a wake-up that is lost, repeated or shared by many requests loses
no trace. Each request of a chunk has its own spans, in its own trace.

When traces are off, a producer's `traceparent` is passed on unchanged, nothing of OpenTelemetry's tracing is imported,
and the service is the plain `Service`. When they are on, `TracedService` replaces the stores that make up the
path of a request with subclasses that record spans. Spans hold ids, triggers and error codes, never personal data.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from bson import ObjectId
from pymongo.client_session import ClientSession

from worker.domain.ledger_entry import LedgerEntry
from worker.errors import InvalidSettings, SnapshotError
from worker.service import Service
from worker.settings import Settings
from worker.source.conversations import Conversations, Fetched
from worker.stores.acceptance import Acceptance, Wake
from worker.stores.connections import Connections
from worker.stores.events import Events
from worker.stores.ledger import CompletionDecision, FailureDecision, Key, Ledger
from worker.stores.wakeups import Publish

if TYPE_CHECKING:
    from worker.telemetry.spans import Spans


def build_service(connections: Connections, publish: Publish) -> Service:
    """Build the service, with traces if the settings enable them. Call it after a fork."""
    if connections.settings.traces == "off":
        return Service(connections, publish)
    return TracedService(connections, publish)


def check_variables(settings: Settings) -> None:
    """Check the variables of OpenTelemetry before a process forks, if traces are on. Raises InvalidSettings."""
    if settings.traces != "off":
        _make_spans(settings).close()


def _make_spans(settings: Settings) -> "Spans":
    try:
        from worker.telemetry.spans import Spans  # needs the extra; the settings have checked that it is installed

        return Spans(settings)
    except ValueError as error:  # also while OpenTelemetry is imported
        raise InvalidSettings(f"A variable of OpenTelemetry is not valid: {error}") from None


class TracedService(Service):
    """A Service that records an OpenTelemetry span for each step of a request."""

    def __init__(self, connections: Connections, publish: Publish) -> None:
        """Raises InvalidSettings."""
        super().__init__(connections, publish)
        self.spans = _make_spans(connections.settings)
        self.ledger = _TracedLedger(connections, self.spans)
        self.acceptance = _TracedAcceptance(self.ledger, self.settings.run_deadline, self.spans)
        self.conversations = _TracedConversations(connections, self.spans)
        self.events = _TracedEvents(connections, self.spans)


class _TracedLedger(Ledger):
    def __init__(self, connections: Connections, spans: "Spans") -> None:
        super().__init__(connections)
        self._spans = spans

    def load(self, ids: Sequence[ObjectId]) -> list[LedgerEntry]:
        with self._spans.measured() as period:
            entries = super().load(ids)
        self._spans.begin(entries, period)
        return entries

    def decide(
        self,
        completions: Sequence[CompletionDecision],
        failures: Sequence[FailureDecision],
        at: datetime,
        session: ClientSession,
    ) -> list[LedgerEntry]:
        self._spans.deciding([*(each.entry for each in completions), *(each.entry for each in failures)])
        return super().decide(completions, failures, at, session)

    def finish(self, entries: Sequence[LedgerEntry], *, weakly: bool = True) -> None:
        with self._spans.step("finish", entries):
            super().finish(entries, weakly=weakly)
        self._spans.end(entries)

    def postpone(self, entries: Sequence[LedgerEntry], due: datetime, error: SnapshotError, *, counts: bool) -> None:
        super().postpone(entries, due, error, counts=counts)
        self._spans.end(entries, postponed=error.code)


class _TracedAcceptance(Acceptance):
    def __init__(self, ledger: Ledger, deadline: timedelta, spans: "Spans") -> None:
        super().__init__(ledger, deadline)
        self._spans = spans

    def insert(self, entries: Sequence[LedgerEntry], until: float, wake: Wake | None = None) -> dict[Key, LedgerEntry]:
        with self._spans.accepting(entries):
            return super().insert(entries, until, wake)


class _TracedConversations(Conversations):
    def __init__(self, connections: Connections, spans: "Spans") -> None:
        super().__init__(connections)
        self._spans = spans

    def fetch(self, entries: Iterable[LedgerEntry]) -> Iterator[Fetched]:
        return self._spans.fetching(super().fetch(entries))


class _TracedEvents(Events):
    def __init__(self, connections: Connections, spans: "Spans") -> None:
        super().__init__(connections)
        self._spans = spans

    def emit(self, entries: Iterable[LedgerEntry]) -> None:
        emitted = list(entries)
        with self._spans.step("emit", emitted):
            super().emit(emitted)
