"""The metrics of the whole system, read at each scrape."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import pymongo
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from worker.metrics import families
from worker.metrics.gauges import read_broker, read_store
from worker.metrics.outcomes import OutcomeFold
from worker.metrics.readers import Reader, Reuse
from worker.metrics.rejections import RejectionFold
from worker.stores.connections import Connections
from worker.stores.counts import Totals, totals

_SCRAPE_SECONDS = 5.0
"""How long a scrape waits for the servers: half of the 10 s that Prometheus waits for an answer."""
_FOLD_SECONDS = 10.0
_CLOSE_SECONDS = 2.0
_IDENTITY_SECONDS = 60.0
_REUSE_IDENTITIES = Reuse(seconds=60.0)
"""Until all organizations were counted once, this takes seconds where there are millions of requests."""


class SystemMetrics(Collector):
    """A collector for Prometheus. Metrics of an unreachable server are left out; those of a slow one may be older."""

    def __init__(
        self, connections: Connections, reuse: Reuse | None = None, reuse_identities: Reuse = _REUSE_IDENTITIES
    ) -> None:
        """`reuse`: how long figures are reused, by default 2 s at least; Prometheus scrapes every 15 to 60 s."""
        fold = OutcomeFold(connections)
        reuse = reuse or Reuse()
        self._lock = threading.Lock()
        self._high_water = families.HighWater()
        self._outcomes = Reader("outcomes", lambda: fold(_FOLD_SECONDS), reuse)
        self._rejections = Reader("rejections", RejectionFold(connections), reuse)
        self._broker = Reader("redis", lambda: read_broker(connections), reuse)
        self._store = Reader("mongo", lambda: read_store(connections), reuse)
        self._identities = Reader("identity", lambda: _totals(connections), reuse_identities)
        self._readers: tuple[Reader[Any], ...] = (
            self._outcomes,
            self._rejections,
            self._broker,
            self._store,
            self._identities,
        )

    def close(self) -> None:
        """Wait for reads that are in progress, so that their connections can be closed."""
        for reader in self._readers:
            reader.wait(_CLOSE_SECONDS)

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics. One thread at a time reads them, and waiting threads use what it has read."""
        with self._lock:
            yield from list(self._collect())

    def _collect(self) -> Iterator[Metric]:
        deadline = time.monotonic() + _SCRAPE_SECONDS
        for reader in self._readers:
            reader.start()
        answered = {reader: reader.wait(deadline - time.monotonic()) for reader in self._readers}
        if (outcomes := self._outcomes.figures) is not None:
            yield from families.of_outcomes(outcomes, self._high_water)
        if (rejections := self._rejections.figures) is not None:
            yield from families.of_rejections(rejections, self._high_water)
        if (broker := self._broker.figures) is not None:
            yield from families.of_broker(broker)
        if (store := self._store.figures) is not None:
            yield from families.of_store(store)
        if (known := self._identities.figures) is not None:
            yield from families.of_totals(known, self._high_water)
        yield families.of_servers(mongo=answered[self._store], redis=answered[self._broker])


def _totals(connections: Connections) -> Totals:
    with pymongo.timeout(_IDENTITY_SECONDS):
        return totals(connections)
