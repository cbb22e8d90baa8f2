"""Serves `/metrics` on a port of its own for worker, beat and listener, which have no HTTP. Off by default.

In a worker the main process serves it. Its pool processes do the work, so figures of requests are read from the ledger.
"""

from prometheus_client import (
    GC_COLLECTOR,
    PLATFORM_COLLECTOR,
    PROCESS_COLLECTOR,
    CollectorRegistry,
    start_http_server,
)

from worker.log import get_logger
from worker.metrics.system import SystemMetrics
from worker.settings import Settings
from worker.stores.connections import Connections
from worker.telemetry import counters

log = get_logger(__name__)


class MetricsPort:
    """An HTTP server for /metrics in a daemon thread of a worker, beat or a listener."""

    def __init__(self, settings: Settings, number: int) -> None:
        """Raises OSError if the port cannot be opened."""
        self._connections = Connections(settings)
        registry = CollectorRegistry()
        for collector in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR, *counters.ALL):
            registry.register(collector)
        self._metrics = SystemMetrics(self._connections)
        registry.register(self._metrics)
        self._server, self._thread = start_http_server(number, settings.metrics_host, registry)
        self.port = int(self._server.server_port)

    def close(self) -> None:
        """Stop serving metrics."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)
        self._metrics.close()
        self._connections.close()


def serve(settings: Settings) -> MetricsPort | None:
    """Start the server. Returns None if no port is set, or if the port is taken."""
    if settings.metrics_port is None:
        return None
    try:
        server = MetricsPort(settings, settings.metrics_port)
    except (OSError, UnicodeError) as error:  # UnicodeError: no host can have this name
        # No reason to stop a process that does its work: a second worker on the machine finds the port taken.
        reason = error.strerror if isinstance(error, OSError) else f"{settings.metrics_host} is not a host"
        log.warning("metrics_port_taken", port=settings.metrics_port, reason=reason)
        return None
    log.info("metrics_port_opened", host=settings.metrics_host, port=server.port)
    return server
