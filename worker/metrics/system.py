"""The whole system's metrics, read when someone asks for them."""

import threading
from collections.abc import Iterator

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from worker.errors import TransientError
from worker.metrics import families
from worker.metrics.gauges import read_broker, read_store
from worker.metrics.outcomes import OutcomeFold
from worker.metrics.readers import Background, Cached
from worker.metrics.rejections import RejectionFold
from worker.stores.connections import Connections
from worker.stores.stats import identities

_LASTS = 2.0
"""Seconds; Prometheus asks every 15 to 60."""
_FOLD_SECONDS = 4.0
"""Below the 10 s that Prometheus waits for an answer."""
_IDENTITY_LASTS = 60.0


class SystemMetrics(Collector):
    """Reads MongoDB and Redis in whatever thread collects; where one is away, its metrics are left out."""

    def __init__(self, connections: Connections) -> None:
        fold = OutcomeFold(connections)
        self._connections = connections
        self._lock = threading.Lock()
        self._rising = families.HighWater()
        self._outcomes = Cached("outcomes", lambda: fold(_FOLD_SECONDS), _LASTS)
        self._rejections = Cached("rejections", RejectionFold(connections), _LASTS)
        self._broker = Cached("redis", lambda: read_broker(connections), _LASTS)
        self._store = Cached("mongo", lambda: read_store(connections), _LASTS)
        # Of the whole ledger, if from indexes alone: seconds where there are millions.
        self._identities = Background("identity", lambda: identities(connections), _IDENTITY_LASTS)

    def collect(self) -> Iterator[Metric]:
        """One thread at a time; those that come meanwhile find what it read."""
        with self._lock:
            yield from list(self._all())

    def _all(self) -> Iterator[Metric]:
        store, broker = self._store(), self._broker()
        if (outcomes := self._outcomes()) is not None:
            yield from families.of_outcomes(outcomes, self._rising)
        if (rejections := self._rejections()) is not None:
            yield from families.of_rejections(rejections, self._rising)
        if broker is not None:
            yield from families.of_broker(broker)
        if store is not None:
            try:
                yield from families.of_store(store, self._connections.clock.now())
            except TransientError:
                store = None
        if (known := self._identities()) is not None:
            yield from families.of_identities(known)
        yield families.of_servers(mongo=store is not None, redis=broker is not None)
