"""The metrics of the HTTP API and of the whole system, for Prometheus.

Labels describe a request only by its method, route and status.
"""

from prometheus_client import (
    GC_COLLECTOR,
    PLATFORM_COLLECTOR,
    PROCESS_COLLECTOR,
    CollectorRegistry,
    Counter,
    Histogram,
    generate_latest,
)

from worker.metrics.system import SystemMetrics
from worker.stores.connections import Connections

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class HttpMetrics:
    """The metrics registry of this process. With connections, it also has the metrics of the whole system."""

    def __init__(self, connections: Connections | None = None) -> None:
        self.registry = CollectorRegistry()
        for collector in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR):
            self.registry.register(collector)
        if connections is not None:
            self.registry.register(SystemMetrics(connections))
        labels = ("method", "route")
        self._requests = Counter(
            "snapshots_http_requests", "HTTP requests answered", (*labels, "status"), registry=self.registry
        )
        self._seconds = Histogram(
            "snapshots_http_seconds",
            "Seconds from the start of a request to the end of its response",
            labels,
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._logins = Counter(
            "snapshots_operations_logins",
            "Logins to the operations pages, by token or link",
            ("by", "outcome"),
            registry=self.registry,
        )

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one response of this process.

        `route`: the path with placeholders, such as `/api/training/snapshots/{id}`. `seconds`: how long the response
            took.
        """
        self._requests.labels(method, route, status).inc()
        self._seconds.labels(method, route).observe(seconds)

    def logged_in(self, by: str, outcome: str) -> None:
        """Count an attempt to log in to the operations pages: by `token` or `link`, `opened` or `refused`."""
        self._logins.labels(by, outcome).inc()

    def text(self) -> bytes:
        """Render in Prometheus's text format. It reads both servers, so call it in a thread."""
        return generate_latest(self.registry)
