"""What stands in Redis, and in MongoDB beside the outcomes, at this moment."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pymongo
import redis

from worker.clock import from_milliseconds
from worker.domain.requests import COMPLETED, FAILED
from worker.stores.checkpoints import State
from worker.stores.connections import Connections, Document, broker_errors, store_errors
from worker.stores.stats import backlog

UNACKED = "unacked"
"""The hash of messages that workers have and did not acknowledge yet; kombu's default, `unacked_key`."""
_STORE_SECONDS = 5
_MOST_GROUPS = 50


@dataclass(slots=True)
class Group:
    """A consumer group. `lag`: entries that it was not given yet; None where Redis cannot tell."""

    pending: int
    lag: int | None
    oldest: datetime | None
    """When the oldest entry that it was not given was added, by Redis's clock."""


@dataclass(slots=True)
class BrokerGauges:
    """Of Redis. `now` is its clock."""

    now: datetime
    queues: dict[str, int]
    oldest: dict[str, datetime | None]
    unacked: int
    memory: int
    memory_limit: int
    """Bytes; `maxmemory`, or else all that the machine has."""
    rejected: int
    intake: Group | None
    consumers: dict[str, Group] = field(default_factory=dict)
    """The groups that read the events."""


@dataclass(slots=True)
class StoreGauges:
    """Of MongoDB."""

    unsent: int
    """Outcomes whose event is not out."""
    unsent_since: datetime | None
    left_out: dict[str, int]
    """Closings of the last week that made no snapshot, by reason."""
    swept_at: datetime | None


def read_broker(connections: Connections) -> BrokerGauges:
    """Raises BrokerUnavailable."""
    names = connections.settings
    waiting = backlog(connections)
    client: Any = connections.redis
    with broker_errors(), client.pipeline(transaction=False) as pipeline:
        pipeline.time().hlen(UNACKED).info("memory").xlen(names.rejected_stream)
        seconds, unacked, memory, rejected = pipeline.execute()
    intake = _groups(client, names.requests_stream).get(names.consumer_group)
    return BrokerGauges(
        now=datetime.fromtimestamp(seconds[0] + seconds[1] / 1e6, UTC),
        queues=waiting.lengths,
        oldest=waiting.oldest,
        unacked=unacked,
        memory=memory["used_memory"],
        memory_limit=memory.get("maxmemory") or memory.get("total_system_memory") or 0,
        rejected=rejected,
        intake=intake,
        consumers=_groups(client, names.events_stream),
    )


def _groups(client: Any, stream: str) -> dict[str, Group]:
    """None where the stream is not there."""
    with broker_errors():
        try:
            found = client.xinfo_groups(stream)
        except redis.ResponseError:
            return {}
        groups: dict[str, Group] = {}
        for each in found[:_MOST_GROUPS]:
            last = each["last-delivered-id"].decode()
            following = client.xrange(stream, min=f"({last}", count=1)
            oldest = _added_at(following[0][0]) if following else None
            lag = each.get("lag")
            groups[each["name"].decode(errors="replace")] = Group(each["pending"], 0 if not following else lag, oldest)
        return groups


def _added_at(entry: bytes) -> datetime:
    return from_milliseconds(int(entry.partition(b"-")[0]))


def read_store(connections: Connections) -> StoreGauges:
    """Index reads alone. Raises StoreUnavailable, StoreConflict."""
    names = connections.settings
    with store_errors(), pymongo.timeout(_STORE_SECONDS):
        unsent = _one(
            connections,
            names.requests_collection,
            [
                {"$match": {"status": {"$in": [COMPLETED, FAILED]}, "unsent": True}},
                {"$group": {"_id": None, "count": {"$sum": 1}, "since": {"$min": "$finishedAt"}}},
            ],
        )
        reasons = connections.database[names.left_out_collection].aggregate(
            [{"$match": {"organizationId": {"$exists": True}}}, {"$group": {"_id": "$reason", "count": {"$sum": 1}}}]
        )
        left_out = {str(each["_id"]): each["count"] for each in reasons}
        swept_at = State(connections).get("turn:sweep").get("begunAt")
    return StoreGauges(unsent.get("count", 0), unsent.get("since"), left_out, swept_at)


def _one(connections: Connections, collection: str, pipeline: list[Document]) -> Mapping[str, Any]:
    return next(iter(connections.database[collection].aggregate(pipeline)), {})
