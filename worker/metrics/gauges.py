"""Reads what the gauges show: queues and consumer groups in Redis, and what waits in MongoDB.

The outcomes of requests are counted by `worker.metrics.outcomes`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

import pymongo
import redis

from worker.clock import from_milliseconds
from worker.domain.ledger_entry import UNSENT
from worker.stores.checkpoints import EXPIRED, Checkpoints
from worker.stores.connections import Connections, Document, broker_errors, store_errors
from worker.stores.outbox import Outbox
from worker.stores.stats import backlog
from worker.stores.stream_ids import LAST_PART
from worker.sweep.schedule_lock import SWEEP, checkpoint_of

_LAST_ID = f"{LAST_PART}-{LAST_PART}"
UNACKED = "unacked"
"""The hash of messages that workers have not acknowledged yet: kombu's default for `unacked_key`."""
_STORE_SECONDS = 15
_MAX_GROUPS = 50


@dataclass(slots=True)
class ConsumerGroup:
    """A consumer group. `lag`: the number of entries not delivered to it yet, or None if Redis does not know it."""

    pending: int
    lag: int | None
    oldest: datetime | None
    """When the oldest entry not delivered yet was added, by Redis's clock."""


@dataclass(slots=True)
class BrokerGauges:
    """The backlog in Redis, and its memory, read at the time `now` of its clock."""

    now: datetime
    queues: dict[str, int]
    oldest: dict[str, datetime | None]
    unacked: int
    memory: int | None
    memory_limit: int | None
    """In bytes: `maxmemory`, or the machine's memory if that is not set. None if the ACL does not allow INFO."""
    rejected: int
    intake: ConsumerGroup | None
    consumers: dict[str, ConsumerGroup] = field(default_factory=dict)
    """The consumer groups of the event stream."""


@dataclass(slots=True)
class StoreGauges:
    """The backlog in MongoDB, read at the time `at`."""

    at: datetime
    unsent: int
    """How many outcomes have an event that has not been emitted."""
    unsent_since: datetime | None
    skipped: dict[str, int]
    """For how many closings of the last week no snapshot was made, by reason."""
    swept_at: datetime | None
    expired: int = 0
    """How many snapshots were removed because of their age."""


def read_broker(connections: Connections) -> BrokerGauges:
    """Read queues, streams and memory of Redis. Raises BrokerUnavailable."""
    names = connections.settings
    waiting = backlog(connections)
    client: Any = connections.redis
    with broker_errors(), client.pipeline(transaction=False) as pipeline:
        pipeline.time().hlen(UNACKED).xlen(names.rejected_stream)
        seconds, unacked, rejected = pipeline.execute()
    memory = _memory(client)
    intake = _groups(client, names.requests_stream).get(names.consumer_group)
    return BrokerGauges(
        now=datetime.fromtimestamp(seconds[0] + seconds[1] / 1e6, UTC),
        queues=waiting.lengths,
        oldest=waiting.oldest,
        unacked=unacked,
        memory=memory.get("used_memory"),
        memory_limit=(memory.get("maxmemory") or memory.get("total_system_memory") or 0) if memory else None,
        rejected=rejected,
        intake=intake,
        consumers=_groups(client, names.events_stream),
    )


def _memory(client: Any) -> Mapping[str, Any]:
    with broker_errors():
        try:
            return cast("Mapping[str, Any]", client.info("memory"))
        except redis.exceptions.NoPermissionError:
            return {}


def _groups(client: Any, stream: str) -> dict[str, ConsumerGroup]:
    """Return the consumer groups by name; none if the stream does not exist."""
    with broker_errors():
        try:
            rows = client.xinfo_groups(stream)
        except redis.ResponseError:
            return {}
        groups: dict[str, ConsumerGroup] = {}
        for row in rows[:_MAX_GROUPS]:
            last = row["last-delivered-id"].decode()
            # Redis refuses a range that begins behind the greatest id.
            undelivered = client.xrange(stream, min=f"({last}", count=1) if last != _LAST_ID else ()
            oldest = _added_at(undelivered[0][0]) if undelivered else None
            lag = row.get("lag") if undelivered else 0
            groups[row["name"].decode(errors="replace")] = ConsumerGroup(row["pending"], lag, oldest)
        return groups


def _added_at(entry: bytes) -> datetime:
    return from_milliseconds(int(entry.partition(b"-")[0]))


def read_store(connections: Connections) -> StoreGauges:
    """Read the figures from indexes alone. Raises StoreUnavailable, StoreConflict."""
    names = connections.settings
    with store_errors(), pymongo.timeout(_STORE_SECONDS):
        unsent = _one(
            connections,
            names.requests_collection,
            [
                {"$match": UNSENT},
                {"$group": {"_id": None, "count": {"$sum": 1}, "since": {"$min": "$finishedAt"}}},
            ],
        )
        noted, noted_since = Outbox(connections).totals()
        reasons = connections.database[names.left_out_collection].aggregate(
            [{"$match": {"organizationId": {"$exists": True}}}, {"$group": {"_id": "$reason", "count": {"$sum": 1}}}]
        )
        skipped = {str(row["_id"]): row["count"] for row in reasons}
        swept_at = Checkpoints(connections).get(checkpoint_of(SWEEP)).get("begunAt")
        expired = Checkpoints(connections).get(EXPIRED["_id"]).get("snapshots", 0)
        now = connections.clock.now()
    since = min((time for time in (unsent.get("since"), noted_since) if time), default=None)
    return StoreGauges(now, unsent.get("count", 0) + noted, since, skipped, swept_at, expired)


def _one(connections: Connections, collection: str, pipeline: list[Document]) -> Mapping[str, Any]:
    return next(iter(connections.database[collection].aggregate(pipeline)), {})
