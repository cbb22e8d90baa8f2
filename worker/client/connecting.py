"""The connection of both clients to Redis."""

from typing import Any

from ..errors import InvalidSettings
from ..redis_address.url import RedisAddress, parse_redis_url

OPTIONS: dict[str, Any] = {
    "decode_responses": True,
    "encoding_errors": "replace",  # entries of other producers are ignored, whatever bytes they hold
    "protocol": 2,
    "socket_timeout": 10,
    "socket_connect_timeout": 5,
    "socket_keepalive": True,
    "client_name": "training-snapshots-client",
}


def read_address(redis_url: str) -> RedisAddress:
    """Parse the URL of Redis. Raises InvalidSettings, whose message names the faulty part and contains no value."""
    try:
        return parse_redis_url(redis_url)
    except ValueError as error:
        raise InvalidSettings(f"The URL of Redis {error}.") from None
