"""OpenTelemetry traces of requests, from their producer to their event. Off by default, and an extra: `otel`.

    producer ─▶ snapshots.accept ─▶ snapshots.run ─▶ load, fetch, assemble, decide, emit, finish
                       └ its `traceparent` is kept on the ledger entry, and goes out in the event

The ledger carries the trace across the queue, as it carries the request: a wake-up call that is lost, repeated or
shared by many loses no trace. Each request of a chunk has spans of its own, in its own trace.

Off: a producer's `traceparent` goes through unchanged, nothing of OpenTelemetry is imported, and no call is wrapped.
On: `install` wraps the parts of one service, so that the straight line itself knows nothing of it. No span holds
personal data: ids, trigger, codes.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from worker.settings import Settings


class Traced(Protocol):
    """A service, as far as it is traced; not its class, which would be above this module."""

    settings: Settings
    ledger: Any
    conversations: Any
    events: Any


def install(service: Traced) -> Any:
    """Wraps the parts of a service where the settings ask for traces; what records them, or None.

    Call it once for each service, after a fork.
    """
    if service.settings.traces == "off":
        return None
    from worker.telemetry.spans import Spans  # which needs the extra; the settings have seen that it is there

    spans = Spans(service.settings)
    _wrap(service, spans)
    return spans


def _wrap(service: Traced, spans: Any) -> None:
    ledger, conversations, events = service.ledger, service.conversations, service.events
    insert, load, decide, finish, postpone = (
        getattr(ledger, name) for name in ("insert", "load", "decide", "finish", "postpone")
    )
    fetch, emit = conversations.fetch, events.emit

    def traced_insert(entries: Sequence[dict[str, Any]]) -> Any:
        with spans.accepting(entries):
            return insert(entries)

    def traced_load(ids: Sequence[Any]) -> Any:
        with spans.measured() as took:
            found = load(ids)
        spans.begin(found, took)
        return found

    def traced_fetch(entries: Sequence[Mapping[str, Any]]) -> Any:
        return spans.fetching(fetch(entries))

    def traced_decide(completions: Any, failures: Any, *others: Any, **named: Any) -> Any:
        spans.deciding([each.entry for each in (*completions, *failures)])
        return decide(completions, failures, *others, **named)

    def traced_emit(entries: Any) -> None:
        every = list(entries)
        with spans.step("emit", every):
            emit(every)

    def traced_finish(entries: Any, **named: Any) -> None:
        with spans.step("finish", entries):
            finish(entries, **named)
        spans.end(entries)

    def traced_postpone(entries: Any, due: Any, error: Any, **named: Any) -> None:
        postpone(entries, due, error, **named)
        spans.end(entries, postponed=error.code)

    ledger.insert, ledger.load, ledger.decide = traced_insert, traced_load, traced_decide
    ledger.finish, ledger.postpone = traced_finish, traced_postpone
    conversations.fetch, events.emit = traced_fetch, traced_emit
