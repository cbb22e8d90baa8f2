"""The heartbeat of the workers: one key in Redis, which every worker renews and which expires."""

from datetime import timedelta
from typing import Any

_KEY = "snapshots:worker-alive"
INTERVAL = timedelta(seconds=5)
LIFETIME = timedelta(seconds=30)
"""If there is no heartbeat for this long, no worker is alive."""


def beat(client: Any, worker: str) -> None:
    """Renew the heartbeat. `client` is a redis-py client. Raises redis-py's errors."""
    client.set(_KEY, worker, ex=round(LIFETIME.total_seconds()))


def is_alive(client: Any) -> bool:
    """Return whether any worker has been alive within LIFETIME. Raises redis-py's errors."""
    return bool(client.exists(_KEY))
