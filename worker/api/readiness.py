"""Whether the servers and the workers are there."""

from dataclasses import dataclass

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from worker.settings import Settings
from worker.stores import heartbeat


@dataclass(frozen=True, slots=True)
class Readiness:
    """Which parts answer."""

    mongo: bool
    redis: bool
    workers: bool

    @property
    def status(self) -> str:
        """`degraded`: requests are accepted, and processed later."""
        if not self.mongo:
            return "unavailable"
        return "ready" if self.redis and self.workers else "degraded"


def redis_and_workers(settings: Settings) -> tuple[bool, bool]:
    """Return whether Redis answers, and whether a worker has renewed the heartbeat there within 30 seconds."""
    client = settings.redis.client(socket_timeout=1, socket_connect_timeout=1, retry=Retry(NoBackoff(), 0))
    try:
        return True, heartbeat.is_alive(client)
    except redis.RedisError:
        return False, False
    finally:
        client.close()
