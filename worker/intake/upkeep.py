"""Trims the intake stream, and removes consumers that are gone from its group."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import redis

from worker.intake.scripts import REMOVE_CONSUMERS
from worker.intake.stream import is_group_gone
from worker.stores.connections import Connections, broker_errors

_LAST_SEQUENCE = 2**64 - 1


class StreamUpkeep:
    """Maintains the stream and its consumer group. All methods raise BrokerUnavailable."""

    def __init__(self, connections: Connections) -> None:
        self._redis: Any = connections.redis
        self._stream = connections.settings.requests_stream
        self._group = connections.settings.consumer_group

    def trim(self) -> int:
        """Remove entries that every group has acknowledged; return how many.

        Redis removes only whole nodes, so some stay.
        """
        with broker_errors():
            try:
                groups = self._redis.xinfo_groups(self._stream)
                if not groups:
                    return 0
                lowest = min(self._lowest_unacknowledged(group) for group in groups)
                return int(self._redis.xtrim(self._stream, minid=f"{lowest[0]}-{lowest[1]}", approximate=True))
            except redis.ResponseError as error:
                if not is_group_gone(error):
                    raise
                return 0

    def _lowest_unacknowledged(self, group: Mapping[str, Any]) -> tuple[int, int]:
        """Return the lowest id that the group has not acknowledged, whether it is pending or not delivered yet."""
        milliseconds, sequence = _parts(group["last-delivered-id"])
        next_id = (milliseconds, sequence + 1) if sequence < _LAST_SEQUENCE else (milliseconds + 1, 0)
        pending = self._redis.xpending(self._stream, group["name"])
        return min(next_id, _parts(pending["min"])) if pending["pending"] else next_id

    def remove_idle_consumers(self, idle: timedelta) -> int:
        """Remove consumers that have been idle for `idle` and have no pending entries; return how many."""
        return self._remove("", round(idle.total_seconds() * 1000))

    def remove_consumer(self, consumer: str) -> None:
        """Remove a consumer unless it has pending entries, which another listener will claim."""
        self._remove(consumer, 0)

    def _remove(self, consumer: str, idle: int) -> int:
        with broker_errors():
            try:
                return int(self._redis.eval(REMOVE_CONSUMERS, 1, self._stream, self._group, consumer, idle))
            except redis.ResponseError as error:
                if not is_group_gone(error):
                    raise
                return 0


def _parts(key: bytes | str) -> tuple[int, int]:
    milliseconds, _, sequence = (key.decode() if isinstance(key, bytes) else key).partition("-")
    return int(milliseconds), int(sequence or 0)
