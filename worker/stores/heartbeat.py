"""Which processes are alive: workers of single requests by a key in Redis that they renew, listeners by their reads."""

from datetime import timedelta
from typing import Any

import redis

_KEY = "snapshots:worker-alive"
INTERVAL = timedelta(seconds=5)
LIFETIME = timedelta(seconds=30)
"""If there is no heartbeat for this long, no worker of single requests is alive."""
_LISTENER_SILENCE = timedelta(seconds=10)
"""A listener that has not read the intake stream for this long is taken for dead. It reads every second or, while it is
busy, every three seconds; if it waits for MongoDB for longer, floods take the slow way through the bulk queue."""


def beat(client: Any, worker: str) -> None:
    """Renew the heartbeat. `client` is a redis-py client. Raises redis-py's errors."""
    client.set(_KEY, worker, ex=round(LIFETIME.total_seconds()))


def is_alive(client: Any) -> bool:
    """Return whether a worker of single requests has renewed it within LIFETIME. Raises redis-py's errors."""
    return bool(client.exists(_KEY))


def count_listeners(client: Any, stream: str, group: str) -> int:
    """Count the consumers of the intake group that have read recently. Raises redis-py's errors."""
    try:
        consumers = client.xinfo_consumers(stream, group)
    except redis.ResponseError:  # there is no stream or no group yet
        return 0
    return sum(timedelta(milliseconds=each["idle"]) < _LISTENER_SILENCE for each in consumers)
