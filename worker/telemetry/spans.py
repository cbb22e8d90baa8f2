"""The spans of requests. Imported only where traces are on: it needs the extra `otel`."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
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

from worker.domain.requests import ACCEPTED
from worker.domain.traceparent import TRACEPARENT
from worker.settings import Settings

_EXPORT_MS = 1000
_PROPAGATOR = TraceContextTextMapPropagator()
Entry = Mapping[str, Any]


@dataclass
class _Running:
    """A request that a run of this process has. Times are in ns since 1970, as spans want them."""

    span: Span
    steps: dict[str, int] = field(default_factory=dict)
    """When a step that has no end yet began."""


class Spans:
    """What one process records. A worker's process runs one message at a time."""

    def __init__(self, settings: Settings) -> None:
        resource = Resource.create(
            {"service.name": "training-snapshots", "service.version": version("training-snapshots")}
        )
        self._provider = TracerProvider(resource=resource)
        exporter = OTLPSpanExporter(endpoint=settings.traces_url, timeout=5)
        self._provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=_EXPORT_MS))
        self._tracer = self._provider.get_tracer("training-snapshots")
        self._running: dict[ObjectId, _Running] = {}
        signals.task_postrun.connect(self._forget, weak=False)
        signals.worker_process_shutdown.connect(self._shut_down, weak=False)

    def flush(self) -> None:
        """Sends what is finished."""
        self._provider.force_flush()

    def _shut_down(self, **_: Any) -> None:
        self._provider.shutdown()

    # --- accept ---------------------------------------------------------------------------------------

    @contextmanager
    def accepting(self, entries: Sequence[dict[str, Any]]) -> Iterator[None]:
        """A span for each new entry, which from then on carries it."""
        spans = [self._start("snapshots.accept", entry, SpanKind.PRODUCER) for entry in entries]
        for entry, span in zip(entries, spans, strict=True):
            carrier: dict[str, str] = {}
            _PROPAGATOR.inject(carrier, trace.set_span_in_context(span))
            if TRACEPARENT in carrier:  # not where OpenTelemetry's own OTEL_SDK_DISABLED is set
                entry[TRACEPARENT] = carrier[TRACEPARENT]
        try:
            yield
        except Exception as error:
            for span in spans:
                _failed(span, type(error).__name__)
            raise
        finally:
            for span in spans:
                span.end()

    # --- run --------------------------------------------------------------------------------------------

    @contextmanager
    def measured(self) -> Iterator[list[int]]:
        """Its begin and end."""
        took = [time.time_ns()]
        yield took
        took.append(time.time_ns())

    def begin(self, entries: Iterable[Entry], took: Sequence[int]) -> None:
        """A run has these entries. Loaded once more within it, they go on as they are."""
        began, ended = took
        for entry in entries:
            if entry["status"] == ACCEPTED and TRACEPARENT in entry and entry["_id"] not in self._running:
                span = self._start("snapshots.run", entry, SpanKind.CONSUMER, start=began)
                self._running[entry["_id"]] = _Running(span)
                self._step("load", span, began, ended)

    def fetching(self, fetched: Iterator[tuple[Entry, Any]]) -> Iterator[tuple[Entry, Any]]:
        """From one entry to the next is what its fetch took."""
        began = time.time_ns()
        for entry, found in fetched:
            if running := self._running.get(entry["_id"]):
                now = time.time_ns()
                self._step("fetch", running.span, began, now)
                running.steps["assemble"] = now
            yield entry, found
            began = time.time_ns()

    def deciding(self, entries: Iterable[Entry]) -> None:
        """The transaction: until the event is emitted, which is right after it."""
        now = time.time_ns()
        for running in self._of(entries):
            if assembled := running.steps.pop("assemble", None):
                self._step("assemble", running.span, assembled, now)
            running.steps["decide"] = now

    @contextmanager
    def step(self, name: str, entries: Sequence[Entry]) -> Iterator[None]:
        """A step of these entries together; of one that no run of this process has (the sweep's), a span of its own."""
        began = time.time_ns()
        for running in self._of(entries):
            if decided := running.steps.pop("decide", None):
                self._step("decide", running.span, decided, began)
        fault: str | None = None
        try:
            yield
        except Exception as error:
            fault = type(error).__name__
            raise
        finally:
            for entry in entries:
                self._note(name, entry, began, fault)

    def _note(self, name: str, entry: Entry, began: int, fault: str | None) -> None:
        if running := self._running.get(entry["_id"]):
            self._step(name, running.span, began, time.time_ns(), fault)
            if fault:
                self._end(entry["_id"], fault)
        elif name == "emit" and TRACEPARENT in entry and entry.get("unsent"):  # no repeat of what Redis lost
            span = self._start("snapshots.emit", entry, SpanKind.PRODUCER, start=began)
            if fault:
                _failed(span, fault)
            span.end()

    def end(self, entries: Iterable[Entry], postponed: str | None = None) -> None:
        """Their runs are over; `postponed`: why they are tried again."""
        for entry in entries:
            if running := self._running.get(entry["_id"]):
                running.span.set_attribute("snapshots.status", "postponed" if postponed else entry["status"])
                self._end(entry["_id"], postponed or (entry.get("error") or {}).get("code"))

    def _end(self, key: ObjectId, fault: str | None) -> None:
        span = self._running.pop(key).span
        if fault:
            _failed(span, fault)
        span.end()

    def _forget(self, **_: Any) -> None:
        """The message is done: what it left (another run decided it) ends too."""
        for key in list(self._running):
            self._end(key, None)

    # --- spans ------------------------------------------------------------------------------------------

    def _of(self, entries: Iterable[Entry]) -> Iterator[_Running]:
        for entry in entries:
            if running := self._running.get(entry["_id"]):
                yield running

    def _start(self, name: str, entry: Entry, kind: SpanKind, start: int | None = None) -> Span:
        ids = {
            "snapshots.id": str(entry["_id"]),
            "snapshots.organization_id": str(entry["organizationId"]),
            "snapshots.trigger": entry.get("trigger", "unknown"),
            "snapshots.round": entry["round"],
        }
        parent = _PROPAGATOR.extract({TRACEPARENT: entry[TRACEPARENT]}) if TRACEPARENT in entry else Context()
        return self._tracer.start_span(name, context=parent, kind=kind, attributes=ids, start_time=start)

    def _step(self, name: str, parent: Span, began: int, ended: int, fault: str | None = None) -> None:
        context = trace.set_span_in_context(parent)
        span = self._tracer.start_span(name, context=context, start_time=began)
        if fault:
            _failed(span, fault)
        span.end(ended)


def _failed(span: Span, code: str) -> None:
    span.set_status(Status(StatusCode.ERROR, code))
