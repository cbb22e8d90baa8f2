"""Records the spans of requests. Imported only while traces are on, because it needs the extra `otel`."""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from bson import ObjectId
from celery import signals
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from worker.domain.ledger_entry import LedgerEntry, is_open, is_unsent
from worker.domain.traceparent import TRACEPARENT
from worker.settings import Settings
from worker.source.conversations import Fetched

_EXPORT_INTERVAL_MS = 1000
_PROPAGATOR = TraceContextTextMapPropagator()
Period = list[int]
"""Begin and end, in ns since 1970."""


@dataclass
class _Running:
    """A request that a run of this process is working on. Times are in ns since 1970."""

    span: Span
    steps: dict[str, int] = field(default_factory=dict)
    """The start of each step that has not ended yet."""


class Spans:
    """Records the spans of one process. A worker's process runs one message at a time."""

    def __init__(self, settings: Settings) -> None:
        resource = Resource.create(
            {"service.name": "training-snapshots", "service.version": version("training-snapshots")}
        )
        self._provider = TracerProvider(resource=resource)
        exporter = OTLPSpanExporter(endpoint=settings.traces_url, timeout=5)
        self._provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=_EXPORT_INTERVAL_MS))
        self._tracer = self._provider.get_tracer("training-snapshots")
        self._running: dict[ObjectId, _Running] = {}
        signals.task_postrun.connect(self._on_task_postrun, weak=False)
        signals.worker_process_shutdown.connect(self._on_process_shutdown, weak=False)

    def flush(self) -> None:
        """Export the spans that have ended."""
        self._provider.force_flush()

    def close(self) -> None:
        """Export the spans that have ended, and stop recording."""
        signals.task_postrun.disconnect(self._on_task_postrun)
        signals.worker_process_shutdown.disconnect(self._on_process_shutdown)
        self._provider.shutdown()

    def _on_process_shutdown(self, **_: Any) -> None:
        self._provider.shutdown()

    def _on_task_postrun(self, **_: Any) -> None:
        """End the spans of requests that the message left open because another run decided them."""
        for key in list(self._running):
            self._end(key, None)

    # --- accept ---------------------------------------------------------------------------------------

    @contextmanager
    def accepting(self, entries: Sequence[LedgerEntry]) -> Iterator[None]:
        """Record a span for each new entry, and store its `traceparent` in the entry."""
        spans = [self._start("snapshots.accept", entry, SpanKind.PRODUCER) for entry in entries]
        for entry, span in zip(entries, spans, strict=True):
            carrier: dict[str, str] = {}
            _PROPAGATOR.inject(carrier, trace.set_span_in_context(span))
            if TRACEPARENT in carrier:  # absent where OpenTelemetry's own OTEL_SDK_DISABLED is set
                entry[TRACEPARENT] = carrier[TRACEPARENT]
        try:
            yield
        except Exception as error:
            for span in spans:
                _set_failed(span, type(error).__name__)
            raise
        finally:
            for span in spans:
                span.end()

    # --- run --------------------------------------------------------------------------------------------

    @contextmanager
    def measured(self) -> Iterator[Period]:
        """Measure a step whose entries are known only at its end."""
        period = [time.time_ns()]
        yield period
        period.append(time.time_ns())

    def begin(self, entries: Iterable[LedgerEntry], period: Period) -> None:
        """Begin the run of these entries, which were loaded in `period`. A run that has already begun continues."""
        began, ended = period
        for entry in entries:
            if is_open(entry) and TRACEPARENT in entry and entry["_id"] not in self._running:
                span = self._start("snapshots.run", entry, SpanKind.CONSUMER, start=began)
                self._running[entry["_id"]] = _Running(span)
                self._record_step("load", span, began, ended)

    def fetching(self, fetched: Iterator[Fetched]) -> Iterator[Fetched]:
        """Record a fetch for each entry: the time between two items of the iterator."""
        began = time.time_ns()
        for entry, conversation in fetched:
            if running := self._running.get(entry["_id"]):
                now = time.time_ns()
                self._record_step("fetch", running.span, began, now)
                running.steps["assemble"] = now
            yield entry, conversation
            began = time.time_ns()

    def deciding(self, entries: Iterable[LedgerEntry]) -> None:
        """End the step `assemble` and begin `decide`, which ends when their next step begins."""
        now = time.time_ns()
        for running in self._running_of(entries):
            if assembled := running.steps.pop("assemble", None):
                self._record_step("assemble", running.span, assembled, now)
            running.steps["decide"] = now

    @contextmanager
    def step(self, name: str, entries: Sequence[LedgerEntry]) -> Iterator[None]:
        """Record a step of these entries. Entries without a run in this process (the sweep's) get their own span."""
        began = time.time_ns()
        for running in self._running_of(entries):
            if decided := running.steps.pop("decide", None):
                self._record_step("decide", running.span, decided, began)
        fault: str | None = None
        try:
            yield
        except Exception as error:
            fault = type(error).__name__
            raise
        finally:
            for entry in entries:
                self._record_step_of(name, entry, began, fault)

    def _record_step_of(self, name: str, entry: LedgerEntry, began: int, fault: str | None) -> None:
        if running := self._running.get(entry["_id"]):
            self._record_step(name, running.span, began, time.time_ns(), fault)
            if fault:
                self._end(entry["_id"], fault)
        # An entry without `unsent` is emitted again only because Redis lost data: that is no part of the request.
        elif name == "emit" and TRACEPARENT in entry and is_unsent(entry):
            span = self._start("snapshots.emit", entry, SpanKind.PRODUCER, start=began)
            if fault:
                _set_failed(span, fault)
            span.end()

    def end(self, entries: Iterable[LedgerEntry], postponed: str | None = None) -> None:
        """End the run spans of these entries. `postponed`: the code of the error after which they are tried again."""
        for entry in entries:
            if running := self._running.get(entry["_id"]):
                running.span.set_attribute("snapshots.status", "postponed" if postponed else entry["status"])
                failure = entry.get("error")
                self._end(entry["_id"], postponed or (failure["code"] if failure else None))

    def _end(self, key: ObjectId, fault: str | None) -> None:
        span = self._running.pop(key).span
        if fault:
            _set_failed(span, fault)
        span.end()

    # --- spans ------------------------------------------------------------------------------------------

    def _running_of(self, entries: Iterable[LedgerEntry]) -> Iterator[_Running]:
        for entry in entries:
            if running := self._running.get(entry["_id"]):
                yield running

    def _start(self, name: str, entry: LedgerEntry, kind: SpanKind, start: int | None = None) -> Span:
        ids: dict[str, str | int] = {
            "snapshots.id": str(entry["_id"]),
            "snapshots.organization_id": str(entry["organizationId"]),
            "snapshots.trigger": entry.get("trigger", "unknown"),
            "snapshots.round": entry["round"],
        }
        parent = _PROPAGATOR.extract({TRACEPARENT: entry[TRACEPARENT]}) if TRACEPARENT in entry else Context()
        return self._tracer.start_span(name, context=parent, kind=kind, attributes=ids, start_time=start)

    def _record_step(self, name: str, parent: Span, began: int, ended: int, fault: str | None = None) -> None:
        context = trace.set_span_in_context(parent)
        span = self._tracer.start_span(name, context=context, start_time=began)
        if fault:
            _set_failed(span, fault)
        span.end(ended)


def _set_failed(span: Span, code: str) -> None:
    span.set_status(Status(StatusCode.ERROR, code))
