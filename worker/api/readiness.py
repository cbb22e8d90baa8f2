"""Checks whether the servers and the workers answer."""

from dataclasses import dataclass

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from worker.settings import Settings
from worker.stores import heartbeat


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether MongoDB, Redis and a worker that consumes `snapshots` answer, as `GET /readyz` shows it."""

    mongo: bool
    redis: bool
    workers: bool

    @property
    def status(self) -> str:
        """`ready`, `degraded` (requests are accepted, and processed later) or `unavailable`."""
        if not self.mongo:
            return "unavailable"
        return "ready" if self.redis and self.workers else "degraded"


class RedisProbe:
    """Asks whether Redis and a worker answer. Kept between probes, because it remembers which Sentinel answers."""

    def __init__(self, settings: Settings) -> None:
        self._client = settings.redis.client(socket_timeout=1, socket_connect_timeout=1, retry=Retry(NoBackoff(), 0))

    def __call__(self) -> tuple[bool, bool]:
        """Return whether Redis answers, and whether a worker has renewed the heartbeat there within 30 seconds."""
        try:
            return True, heartbeat.is_alive(self._client)
        except redis.RedisError:
            return False, False
        finally:
            self.close()  # over an open connection, a Redis that was restarted would look down

    def close(self) -> None:
        """Close the connections; the next probe opens others."""
        self._client.connection_pool.disconnect()
