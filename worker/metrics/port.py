"""A small HTTP port with `/metrics` for processes that have none: worker, beat, listener. Off by default.

A worker's is its main process's, whose pool does the work: what it shows of requests is read from the ledger.
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
    """A server in a daemon thread."""

    def __init__(self, settings: Settings, number: int) -> None:
        """Raises OSError where the port cannot be listened on."""
        self._connections = Connections(settings)
        registry = CollectorRegistry()
        for each in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR, *counters.ALL):
            registry.register(each)
        registry.register(SystemMetrics(self._connections))
        self._server, self._thread = start_http_server(number, settings.metrics_host, registry)
        self.port = int(self._server.server_port)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)
        self._connections.close()


def serve(settings: Settings) -> MetricsPort | None:
    """Serves until the process ends, or it is closed; None where no port is set, or it is taken."""
    if settings.metrics_port is None:
        return None
    try:
        made = MetricsPort(settings, settings.metrics_port)
    except OSError as error:
        # Not worth a process that does its work: a second worker on one machine finds the port taken.
        log.warning("metrics_port_taken", port=settings.metrics_port, reason=error.strerror)
        return None
    log.info("metrics_served", host=settings.metrics_host, port=made.port)
    return made
