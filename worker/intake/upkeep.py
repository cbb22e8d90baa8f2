"""Trims the intake stream, and removes consumers that are gone from its group."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import redis

from worker.intake.scripts import REMOVE_CONSUMERS
from worker.intake.stream import is_group_gone
from worker.log import get_logger
from worker.stores.connections import Connections, broker_errors
from worker.stores.redis_errors import NO_PERMISSION, name_of
from worker.stores.stream_ids import LAST_PART

log = get_logger(__name__)


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
                if not groups or self._rewound(groups):
                    return 0
                lowest = min(self._lowest_unacknowledged(group) for group in groups)
                return int(self._redis.xtrim(self._stream, minid=f"{lowest[0]}-{lowest[1]}", approximate=True))
            except redis.ResponseError as error:
                if not is_group_gone(error):
                    raise
                return 0

    def _rewound(self, groups: Sequence[Mapping[str, Any]]) -> bool:
        """Reset a group that was set to an id after every entry, so that listeners get new ones; return whether it was.

        The group then begins again at 0. An entry that is read twice is the same request.
        """
        own = [_parts(group["last-delivered-id"]) for group in groups if group["name"] == self._group.encode()]
        try:
            if not own or own[0] <= _parts(self._redis.xinfo_stream(self._stream)["last-generated-id"]):
                return False
            self._redis.xgroup_setid(self._stream, self._group, "0")
        except redis.ResponseError as error:
            if name_of(error) != NO_PERMISSION:  # of a Redis user from before these commands were needed
                raise
            return False
        log.error("group_was_ahead", stream=self._stream, group=self._group)
        return True

    def _lowest_unacknowledged(self, group: Mapping[str, Any]) -> tuple[int, int]:
        """Return the lowest id that the group has not acknowledged, whether it is pending or not delivered yet."""
        milliseconds, sequence = _parts(group["last-delivered-id"])
        next_id = (milliseconds, sequence + 1) if sequence < LAST_PART else (min(milliseconds + 1, LAST_PART), 0)
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
