"""A receiver of traces: OTLP over HTTP, as protobuf. https://opentelemetry.io/docs/specs/otlp/#otlphttp"""

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class Span:
    """A span. `failed` is the error, or None. Times are in ns since 1970."""

    name: str
    trace: str
    id: str
    parent: str
    attributes: dict[str, Any]
    failed: str | None
    began: int
    ended: int


@dataclass
class Collector:
    """The spans received so far, in order of arrival."""

    url: str
    spans: list[Span] = field(default_factory=list)

    def of(self, trace: str) -> dict[str, Span]:
        """Return the spans of a trace by name, and check that no name occurs twice."""
        spans = [span for span in self.spans if span.trace == trace]
        by_name = {span.name: span for span in spans}
        assert len(by_name) == len(spans), [span.name for span in spans]
        return by_name


@contextmanager
def collector() -> Iterator[Collector]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            made.spans += _read(body)
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made = Collector(f"http://127.0.0.1:{server.server_port}/v1/traces")
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield made
        finally:
            server.shutdown()
            thread.join(10)


def _read(body: bytes) -> Iterator[Span]:
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        for scope in resource.scope_spans:
            for each in scope.spans:
                yield Span(
                    each.name,
                    each.trace_id.hex(),
                    each.span_id.hex(),
                    each.parent_span_id.hex(),
                    {one.key: one.value.string_value or one.value.int_value for one in each.attributes},
                    each.status.message if each.status.code == 2 else None,
                    each.start_time_unix_nano,
                    each.end_time_unix_nano,
                )
