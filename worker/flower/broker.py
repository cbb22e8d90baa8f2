"""Lets Flower read the lengths of queues through the same Redis address as every other process.

Flower's own classes ask the first Sentinel only, and ignore the user and the database of a Unix socket.
"""

from typing import Any

from flower.utils.broker import RedisBase
from flower.views import BaseHandler
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from worker.redis_address.address import RedisAddress


class QueueReader(RedisBase):  # type: ignore[misc]
    """Reads the lengths of queues, over a connection that is closed afterwards."""

    def __init__(self, address: RedisAddress, url: str, options: Any) -> None:
        super().__init__(url, broker_options=options)
        self.redis = address.async_client(
            socket_timeout=self.socket_timeout,
            socket_connect_timeout=self.socket_connect_timeout,
            retry=Retry(NoBackoff(), 0),
        )


def read_queues_at(address: RedisAddress) -> None:
    """Make all of Flower's pages and its API read the queues at this address."""

    def get_broker(handler: Any) -> QueueReader:
        options = handler.capp.conf.broker_transport_options
        return QueueReader(address, handler.application.broker_uri_with_password, options)

    BaseHandler.get_broker = get_broker
