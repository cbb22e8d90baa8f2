"""Compares the clocks of this host, Redis and MongoDB.

MongoDB's clock decides; the others are used for a few things.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pymongo

from worker.clock import as_utc
from worker.doctor.findings import Finding, failure, ok, warning
from worker.stores.connections import Connections, broker_errors, store_errors

_WARNING_SECONDS, _FAILURE_SECONDS = 1.0, 30.0
_USED_FOR = {
    "this host": "tokens and logs use it",
    "Redis": "it dates intake entries and decides when events are trimmed",
}


def check(connections: Connections) -> Iterator[Finding]:
    """Compare the clocks of this host, MongoDB and Redis. Raises StoreUnavailable, StoreConflict, BrokerUnavailable."""
    # Open the connections first, so that the measured round trips do not include it.
    for read in (_mongo, _redis):
        read(connections)
    mongo, mongo_error = _offset(_mongo, connections)
    redis, redis_error = _offset(_redis, connections)
    offsets = {"this host": (-mongo, mongo_error), "Redis": (redis - mongo, mongo_error + redis_error)}
    for name, (offset, error) in offsets.items():
        apart = abs(offset)
        if apart - error < _WARNING_SECONDS:
            yield ok(f"{name}: {apart * 1000:,.0f} ms from MongoDB's clock, ±{error * 1000:,.0f} ms")
            continue
        level = failure if apart - error > _FAILURE_SECONDS else warning
        side = "ahead of" if offset > 0 else "behind"
        yield level(
            f"The clock of {name} is {apart:,.1f} s {side} MongoDB's ({_USED_FOR[name]}).",
            "Run an NTP client (chrony or systemd-timesyncd) on all machines.",
        )


def _offset(read: Callable[[Connections], float], connections: Connections) -> tuple[float, float]:
    """Return how many seconds a server's clock is ahead of this host's, and the uncertainty: half the round trip."""
    began, start = time.time(), time.monotonic()
    server_time = read(connections)
    half = (time.monotonic() - start) / 2
    return server_time - (began + half), half


def _mongo(connections: Connections) -> float:
    with store_errors(), pymongo.timeout(5):
        return as_utc(connections.mongo.admin.command("hello")["localTime"]).timestamp()


def _redis(connections: Connections) -> float:
    client: Any = connections.redis
    with broker_errors():
        seconds, microseconds = client.time()
    return float(seconds) + float(microseconds) / 1e6
