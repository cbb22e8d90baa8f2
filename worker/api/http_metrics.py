"""What is measured of the HTTP surface and of the whole system, for Prometheus.

No label holds anything of a request but its route.
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


class Measures:
    """The registry of this process. With connections, the whole system's metrics too."""

    def __init__(self, connections: Connections | None = None) -> None:
        self.registry = CollectorRegistry()
        for each in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR):
            self.registry.register(each)
        if connections is not None:
            self.registry.register(SystemMetrics(connections))
        labels = ("method", "route")
        self._requests = Counter(
            "snapshots_http_requests", "HTTP requests answered", (*labels, "status"), registry=self.registry
        )
        self._seconds = Histogram(
            "snapshots_http_seconds",
            "Seconds to the end of the answer",
            labels,
            buckets=_SECONDS,
            registry=self.registry,
        )

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Counts one answer."""
        self._requests.labels(method, route, status).inc()
        self._seconds.labels(method, route).observe(seconds)

    def text(self) -> bytes:
        """In Prometheus' text format. Reads both servers, so it is called in a thread."""
        return generate_latest(self.registry)
