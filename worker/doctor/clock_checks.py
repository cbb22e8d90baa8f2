"""The clocks of this host, Redis and MongoDB. All that decides goes by MongoDB's; the others matter at the edges."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pymongo

from worker.clock import as_utc
from worker.doctor.findings import Finding, failure, ok, warning
from worker.stores.connections import Connections, broker_errors, store_errors

_NOTED, _TOO_MUCH = 1.0, 30.0
_WHY = {
    "this host": "tokens and the logs go by it",
    "Redis": "events are trimmed by it, and intake entries are dated by it",
}


def check(connections: Connections) -> Iterator[Finding]:
    """Raises StoreUnavailable, StoreConflict, BrokerUnavailable."""
    # The first call opens the connection.
    for read in (_mongo, _redis):
        read(connections)
    mongo, mongo_error = _offset(_mongo, connections)
    redis, redis_error = _offset(_redis, connections)
    offsets = {"this host": (-mongo, mongo_error), "Redis": (redis - mongo, mongo_error + redis_error)}
    for name, (offset, error) in offsets.items():
        apart = abs(offset)
        if apart - error < _NOTED:
            yield ok(f"{name}: {apart * 1000:,.0f} ms from MongoDB's clock, ±{error * 1000:,.0f} ms")
            continue
        level = failure if apart - error > _TOO_MUCH else warning
        side = "ahead of" if offset > 0 else "behind"
        yield level(
            f"The clock of {name} is {apart:,.1f} s {side} MongoDB's ({_WHY[name]}).",
            "Run NTP (chrony, systemd-timesyncd) on all machines.",
        )


def _offset(read: Callable[[Connections], float], connections: Connections) -> tuple[float, float]:
    """Seconds that a server is ahead of this host, and by how much that may be wrong: half the round trip."""
    began, start = time.time(), time.monotonic()
    theirs = read(connections)
    half = (time.monotonic() - start) / 2
    return theirs - (began + half), half


def _mongo(connections: Connections) -> float:
    with store_errors(), pymongo.timeout(5):
        return as_utc(connections.mongo.admin.command("hello")["localTime"]).timestamp()


def _redis(connections: Connections) -> float:
    client: Any = connections.redis
    with broker_errors():
        seconds, microseconds = client.time()
    return float(seconds) + float(microseconds) / 1e6
