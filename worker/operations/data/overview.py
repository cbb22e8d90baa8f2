"""The overview: counts by organization, queues, streams, and the throughput of the last hour."""

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
from worker.stores.counts import totals
from worker.stores.stats import Identity, backlog, oldest_request, sum_of

_SECONDS = 15


@dataclass(frozen=True, slots=True)
class WaitingCounts:
    """The backlog in Redis. `lag`: unread intake entries (None if unknown). `pending`: read, but not acknowledged."""

    queues: dict[str, int]
    oldest: dict[str, datetime | None]
    lag: int | None
    pending: int
    rejected: int


@dataclass(frozen=True, slots=True)
class Overview:
    """The state of one moment. `waiting` is None while Redis cannot be reached."""

    at: datetime
    identities: list[Identity]
    oldest: datetime | None
    waiting: WaitingCounts | None
    minutes: list[Minute]

    @property
    def total(self) -> Identity:
        """The sum over the organizations."""
        return sum_of(self.identities)

    @property
    def holds(self) -> bool:
        return all(identity.holds for identity in self.identities)


class OverviewReader:
    """Reads the overview of one organization or of all: counts, what waits, and the last hour.

    Without Redis, the overview has only what MongoDB knows.
    """

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._throughput = Throughput(connections)

    def __call__(self, organization: ObjectId | None) -> Overview:
        """Read the overview of one organization, or of all. Raises StoreUnavailable, StoreConflict."""
        with pymongo.timeout(_SECONDS):
            return Overview(
                self._connections.clock.now(),
                totals(self._connections, organization).identities,
                oldest_request(self._connections, organization),
                _none_while_down(lambda: _waiting_counts(self._connections)),
                self._throughput.last_hour(organization),
            )


def _none_while_down(read: Callable[[], WaitingCounts]) -> WaitingCounts | None:
    try:
        return read()
    except BrokerUnavailable:
        return None


def _waiting_counts(connections: Connections) -> WaitingCounts:
    names = connections.settings
    messages = backlog(connections)
    lag, pending = _intake_counts(connections)
    with broker_errors():
        rejected: Any = connections.redis.xlen(names.rejected_stream)
    return WaitingCounts(messages.lengths, messages.oldest, lag, pending, rejected)


def _intake_counts(connections: Connections) -> tuple[int | None, int]:
    """Return the lag and the number of pending entries of the intake stream's consumer group."""
    names = connections.settings
    with broker_errors():
        try:
            groups: Any = connections.redis.xinfo_groups(names.requests_stream)
        except redis.ResponseError as error:
            if "no such key" not in str(error):
                raise
            return 0, 0
    for group in groups:
        if group["name"] == names.consumer_group.encode():
            return group.get("lag"), group["pending"]
    return None, 0
