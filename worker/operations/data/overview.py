"""How it goes: counts, what waits and for how long, how far the readers of the streams are behind."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pymongo
import redis
from bson import ObjectId

from worker.errors import BrokerUnavailable
from worker.operations.data.throughput import Minute, Throughput
from worker.stores.connections import Connections, broker_errors
from worker.stores.stats import Identity, backlog, identities, oldest_request

_FRESH, _TIMES = 3.0, 10
"""Seconds that an overview is shown again, at least; and times as long as it took: counting a million requests takes
seconds of a busy server."""
_SECONDS = 15
_REMEMBERED = 100


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits in Redis. `lag`, `pending`: intake entries not read yet (None: Redis cannot tell), and not settled."""

    queues: dict[str, int]
    oldest: dict[str, datetime | None]
    lag: int | None
    pending: int
    rejected: int


@dataclass(frozen=True, slots=True)
class Overview:
    """Of one moment. `waiting` is None while Redis is away."""

    at: datetime
    identities: list[Identity]
    oldest: datetime | None
    waiting: Waiting | None
    minutes: list[Minute]

    @property
    def total(self) -> Identity:
        """Over the organizations."""
        whole = Identity(ObjectId("0" * 24))
        for each in self.identities:
            for name in ("accepted", "completed", "failed", "in_flight", "deleted", "unchanged", "snapshots"):
                setattr(whole, name, getattr(whole, name) + getattr(each, name))
        return whole

    @property
    def holds(self) -> bool:
        return all(each.holds for each in self.identities)


class Overviews:
    """Makes overviews, each for a few seconds the same."""

    def __init__(self, connections: Connections, throughput: Throughput) -> None:
        self._connections = connections
        self._throughput = throughput
        self._known: dict[ObjectId | None, tuple[float, Overview]] = {}

    def of(self, organization: ObjectId | None) -> Overview:
        """Of all organizations, or of one. Raises StoreUnavailable, StoreConflict."""
        until, known = self._known.get(organization, (0.0, None))
        began = time.monotonic()
        if known and began < until:
            return known
        with pymongo.timeout(_SECONDS):
            found = Overview(
                self._connections.clock.now(),
                identities(self._connections, organization),
                oldest_request(self._connections, organization),
                _or_none(lambda: _waiting(self._connections)),
                self._throughput.last_hour(organization),
            )
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        ended = time.monotonic()
        self._known[organization] = ended + max(_FRESH, _TIMES * (ended - began)), found
        return found


def _or_none(read: Callable[[], Waiting]) -> Waiting | None:
    try:
        return read()
    except BrokerUnavailable:
        return None


def _waiting(connections: Connections) -> Waiting:
    names = connections.settings
    messages = backlog(connections)
    lag, pending = _intake(connections)
    with broker_errors():
        rejected: Any = connections.redis.xlen(names.rejected_stream)
    return Waiting(messages.lengths, messages.oldest, lag, pending, rejected)


def _intake(connections: Connections) -> tuple[int | None, int]:
    names = connections.settings
    with broker_errors():
        try:
            groups: Any = connections.redis.xinfo_groups(names.requests_stream)
        except redis.ResponseError as error:
            if "no such key" not in str(error):
                raise
            return 0, 0
    ours = [each for each in groups if each["name"] == names.consumer_group.encode()]
    return (ours[0].get("lag"), ours[0]["pending"]) if ours else (None, 0)
