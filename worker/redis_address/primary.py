"""Connections to the primary of Sentinels that leave a former primary as soon as it refuses a write.

After a failover the former primary stays one for about ten seconds, until the Sentinels make it a replica. Its replicas
follow the new one, so with `min-replicas-to-write` it refuses writes (NOREPLICAS) and keeps its connections. redis-py
only leaves a server that has become a replica.
"""

from contextlib import suppress
from typing import Any

import redis
import redis.asyncio
from redis import sentinel as synchronous
from redis.asyncio import sentinel as asynchronous

_LEFT = "This Redis is no longer the primary."


def _may_be_former(error: redis.ResponseError) -> bool:
    return str(error).startswith("NOREPLICAS")


class PrimaryConnection(synchronous.SentinelManagedConnection):
    """A connection that closes when its server refuses a write and the Sentinels name another primary."""

    def read_response(self, *args: Any, **options: Any) -> Any:
        """Read a reply. Raises redis.ConnectionError, which redis-py retries, if the server is a former primary."""
        try:
            return super().read_response(*args, **options)
        except redis.ResponseError as error:
            if not (_may_be_former(error) and self._has_moved()):
                raise
            self.disconnect()  # type: ignore[no-untyped-call]
            raise redis.ConnectionError(_LEFT) from error

    def _has_moved(self) -> bool:
        """Return whether another server is the primary, and take its address, because a retry connects to it."""
        former = self.host, self.port
        with suppress(redis.ConnectionError, redis.TimeoutError):
            self.host, self.port = self.connection_pool.get_master_address()
        return (self.host, self.port) != former


class PrimarySSLConnection(PrimaryConnection, redis.SSLConnection):
    """`PrimaryConnection` with TLS."""


class AsyncPrimaryConnection(asynchronous.SentinelManagedConnection):
    """`PrimaryConnection` for asyncio."""

    async def read_response(self, *args: Any, **options: Any) -> Any:
        """Read a reply, as `PrimaryConnection.read_response` does."""
        try:
            return await super().read_response(*args, **options)
        except redis.ResponseError as error:
            if not (_may_be_former(error) and await self._has_moved()):
                raise
            await self.disconnect()
            raise redis.ConnectionError(_LEFT) from error

    async def _has_moved(self) -> bool:
        former = self.host, self.port
        with suppress(redis.ConnectionError, redis.TimeoutError):
            self.host, self.port = await self.connection_pool.get_master_address()
        return (self.host, self.port) != former


class AsyncPrimarySSLConnection(AsyncPrimaryConnection, redis.asyncio.SSLConnection):
    """`PrimaryConnection` for asyncio, with TLS."""
