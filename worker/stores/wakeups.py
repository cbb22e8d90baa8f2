"""Wake-ups: Celery messages that name ledger ids, and when the oldest waiting one was published."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from pydantic_core import from_json

from worker.clock import from_milliseconds
from worker.domain.ledger_entry import LedgerEntry
from worker.stores.connections import Connections, broker_errors

INTERACTIVE, BULK, MAINTENANCE, EXPORTS = "snapshots", "snapshots.bulk", "snapshots.maintenance", "snapshots.exports"
"""The queues: requests that someone waits for; requests of backfills, of organizations with many, and redrives; the
sweep, the reconcile task and slices of backfills; slices of exports, erasures and removals by age."""
REQUEST_QUEUES = (INTERACTIVE, BULK)
QUEUES = (*REQUEST_QUEUES, MAINTENANCE, EXPORTS)
CREATE = "snapshots.create"
STAMP = "stamp"
"""The header with the time of publication, in ms by MongoDB's clock."""

UNKNOWN = datetime.min.replace(tzinfo=UTC)
"""Returned instead of a time if the queue is not empty but its oldest messages have no stamp."""
_INSPECTED = 1000
"""How many of a queue's oldest messages are searched for a stamp. Messages of other programs have none."""
_READ_SIZE = 50
MAX_MESSAGE_BYTES = 2 * 1024 * 1024
"""The maximum size of a message. A worker rejects longer ones, and no other process reads them."""
_IDS_PER_UNIT = 50
"""When chunks are formed, this many message ids in a request count as one more request."""

# Messages are read one by one within Redis, so that no reader ever holds a list of huge messages, and Redis holds at
# most one.
_READ = """
local messages = {}
for number = 0, tonumber(ARGV[3]) - 1 do
  local message = redis.call('LINDEX', KEYS[1], ARGV[1] + ARGV[2] * number)
  if not message then break end
  if #message > tonumber(ARGV[4]) then
    messages[#messages + 1] = ''
    break
  end
  messages[#messages + 1] = message
end
return messages
"""


class Publish(Protocol):
    """Publishes wake-ups to Celery's queues; `worker.celery_support.publisher` implements it."""

    def __call__(
        self,
        queue: str,
        chunks: Iterable[Sequence[str]],
        at: datetime,
        delay: timedelta | None = None,
        task_id: str | None = None,
        task: str = CREATE,
    ) -> None:
        """Publish one message per chunk of ledger ids, stamped with `at`, to run after `delay`.

        `task_id`: the id of the Celery task that the first message continues; by default each message is a new task.
        `task`: the name of the task. A task that runs slices of jobs gets ids of jobs instead of ledger ids. Raises
        BrokerUnavailable, in which case some of the messages may have been sent.
        """


def repr_of(ids: Sequence[str]) -> str:
    """Return the text that Flower shows in place of a message's arguments."""
    return ids[0] if len(ids) == 1 else f"{len(ids)} requests from {ids[0]}"


def chunks_of(entries: Sequence[LedgerEntry], limit: int) -> Iterator[list[str]]:
    """Yield chunks of up to `limit` ledger ids, and fewer if the requests name many messages."""
    chunk: list[str] = []
    weight = 0
    for entry in entries:
        weight += 1 + len(entry.get("messageIds") or ()) // _IDS_PER_UNIT
        if chunk and weight > limit:
            yield chunk
            chunk, weight = [], 1 + len(entry.get("messageIds") or ()) // _IDS_PER_UNIT
        chunk.append(str(entry["_id"]))
    if chunk:
        yield chunk


class Queues:
    """Reads the Celery queues, which are lists in Redis. The messages stay there."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def lengths(self) -> dict[str, int]:
        """Return the number of waiting messages by queue. Raises BrokerUnavailable."""
        with broker_errors(), self._connections.redis.pipeline(transaction=False) as pipeline:
            for name in QUEUES:
                pipeline.llen(name)
            return dict(zip(QUEUES, pipeline.execute(), strict=True))

    def oldest_stamp(self, queue: str) -> datetime | None:
        """Return when the oldest stamped message was published, or None if no stamped message waits.

        Returns UNKNOWN if the oldest messages include one that is too long, or if too many of them have no stamp. kombu
        pushes at the left and pops at the right. Raises BrokerUnavailable.
        """
        for first, count in ((0, 1), *((place, _READ_SIZE) for place in range(1, _INSPECTED, _READ_SIZE))):
            messages = self._read(queue, -1 - first, -1, count)
            for message in messages:
                if stamp := _stamp_of(message):
                    return stamp
                if not message:
                    return UNKNOWN
            if len(messages) < count:
                return None
        return UNKNOWN

    def lost_before(self, queue: str, now: datetime, margin: timedelta) -> datetime | None:
        """Return the time before which a wake-up must have been published to be lost, or None if that is unknown.

        It is `margin` before the oldest waiting message was published, or before `now` if none waits: what was
        published later may still be waiting behind that message. Raises BrokerUnavailable.
        """
        oldest = self.oldest_stamp(queue)
        return None if oldest == UNKNOWN else min(oldest or now, now) - margin

    def newest(self, queue: str, count: int) -> list[bytes]:
        """Return the newest messages. If one exceeds MAX_MESSAGE_BYTES, the list ends there with an empty message.

        Raises BrokerUnavailable.
        """
        return self._read(queue, 0, 1, count)

    def _read(self, queue: str, first: int, step: int, count: int) -> list[bytes]:
        with broker_errors():
            found: Any = self._connections.redis.eval(_READ, 1, queue, first, step, count, MAX_MESSAGE_BYTES)
        return list(found)


def _stamp_of(message: bytes | str) -> datetime | None:
    """Read the stamp of whatever is in a queue. pydantic-core refuses JSON that is nested too deeply for Python."""
    try:
        stamp = from_json(message)["headers"].get(STAMP)
        return from_milliseconds(stamp) if isinstance(stamp, int | float) else None
    except (ValueError, KeyError, AttributeError, TypeError, OverflowError, OSError):
        return None  # not a Celery message, or the stamp is not a time: the worker rejects and counts it
