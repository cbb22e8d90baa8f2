"""The wake-up calls: Celery messages that name ledger ids, and how long the oldest of them has waited."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from worker.clock import from_milliseconds
from worker.stores.connections import Connections, broker_errors

INTERACTIVE, BULK, MAINTENANCE = "snapshots", "snapshots.bulk", "snapshots.maintenance"
"""The queues: someone waits; backfills and chunks; the sweep and the reconcile."""
REQUEST_QUEUES = (INTERACTIVE, BULK)
CREATE = "snapshots.create"
STAMP = "stamp"
"""The header with the time of the publish, in ms by MongoDB's clock."""

_LOOKED_AT = 1000
"""Messages at a queue's old end that are searched for a stamp: those of foreign producers have none."""
_IDS_A_UNIT = 50
"""Message ids of a request that weigh as much as one request more."""


class Publish(Protocol):
    """Sends wake-up calls."""

    def __call__(
        self, queue: str, chunks: Iterable[Sequence[str]], at: datetime, delay: timedelta | None = None
    ) -> None:
        """One message for each chunk of ledger ids, to run after `delay`.

        Raises BrokerUnavailable; some may be sent even then.
        """


def repr_of(ids: Sequence[str]) -> str:
    """What Flower shows of a message's arguments."""
    return ids[0] if len(ids) == 1 else f"{len(ids)} requests from {ids[0]}"


def chunks_of(entries: Sequence[Mapping[str, Any]], most: int) -> Iterator[list[str]]:
    """The ids of entries, at most so many a chunk, fewer where requests name many messages."""
    chunk: list[str] = []
    weight = 0
    for entry in entries:
        weight += 1 + len(entry.get("messageIds") or ()) // _IDS_A_UNIT
        if chunk and weight > most:
            yield chunk
            chunk, weight = [], 1 + len(entry.get("messageIds") or ()) // _IDS_A_UNIT
        chunk.append(str(entry["_id"]))
    if chunk:
        yield chunk


class Queues:
    """What waits in Redis's lists."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def lengths(self) -> dict[str, int]:
        """Messages that wait, by queue."""
        names = (*REQUEST_QUEUES, MAINTENANCE)
        with broker_errors(), self._connections.redis.pipeline(transaction=False) as pipeline:
            for name in names:
                pipeline.llen(name)
            return dict(zip(names, pipeline.execute(), strict=True))

    def oldest_stamp(self, queue: str) -> datetime | None:
        """When the oldest stamped message that waits was published; None where none of ours waits.

        Behind very many foreign messages the answer is the year 1: nothing is known. kombu pushes at the left
        and pops at the right. Raises BrokerUnavailable.
        """
        step = 50
        with broker_errors():
            for first in range(0, _LOOKED_AT, step):
                messages = self._connections.redis.lrange(queue, -first - step, -first - 1)
                for message in reversed(messages):
                    if stamp := _stamp_of(message):
                        return stamp
                if len(messages) < step:
                    return None
        return datetime.min.replace(tzinfo=UTC)


def _stamp_of(message: bytes | str) -> datetime | None:
    try:
        stamp = json.loads(message)["headers"].get(STAMP)
        return from_milliseconds(stamp) if isinstance(stamp, int | float) else None
    except (ValueError, KeyError, AttributeError, TypeError, OverflowError, OSError):
        return None  # not a Celery message, or with a stamp that is no time: the worker drops and counts it
