"""The intake stream on Redis: read, take over, settle, trim. What entries mean is not known here.

A consumer group keeps for each consumer the entries that it was given and has not acknowledged (its pending
ones). Redis has no retries here: a replayed XREADGROUP would strand a batch, which `read_own` finds again.
https://redis.io/docs/latest/develop/data-types/streams/
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import redis

from worker.errors import SnapshotError
from worker.stores.connections import Connections, broker_errors
from worker.stores.events import entries_of, rejection

Result = TypeVar("Result")

_GROUP_GONE = ("NOGROUP", "UNBLOCKED", "no such key")
"""What replies say when the stream or the group is not there, or went while we were blocked on it."""

_LAST_SEQUENCE = 2**64 - 1

# In one step, so that two listeners that have the same entry reject it once, and a crash neither loses it nor
# doubles it. XADD is the first write: out of memory Redis refuses the script there, with nothing done.
# The pending entry of a flushed stream is gone with its group, and rejected all the same.
_REJECT = """
local pending = redis.pcall('XPENDING', KEYS[1], ARGV[1], ARGV[2], ARGV[2], 1)
if pending['err'] or #pending > 0 then
  redis.call('XADD', KEYS[2], '*', unpack(ARGV, 3))
  redis.pcall('XACK', KEYS[1], ARGV[1], ARGV[2])
  return 1
end
return 0
"""
# In one step, because what a consumer is given between a look and XGROUP DELCONSUMER would be lost.
_FORGET = """
local gone = 0
for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local is = {}
  for i = 1, #consumer, 2 do is[consumer[i]] = consumer[i + 1] end
  local wanted = ARGV[2] == is['name'] or (ARGV[2] == '' and is['idle'] >= tonumber(ARGV[3]))
  if wanted and is['pending'] == 0 then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], is['name'])
    gone = gone + 1
  end
end
return gone
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of the stream. `fields` is None where it was trimmed before it was read."""

    id: str
    fields: Mapping[bytes, bytes] | None

    @property
    def milliseconds(self) -> int:
        """When it was added, by Redis's clock."""
        return int(self.id.split("-", maxsplit=1)[0])


class IntakeStream:
    """The stream as one consumer of the group sees it. All methods raise BrokerUnavailable."""

    def __init__(self, connections: Connections, consumer: str) -> None:
        self._redis: Any = connections.redis
        names = connections.settings
        self._stream, self._group, self._rejected = names.requests_stream, names.consumer_group, names.rejected_stream
        self._consumer = consumer

    # --- read -----------------------------------------------------------------------------------------

    def read_new(self, count: int, block: timedelta | None = None) -> list[Entry]:
        """Entries that no consumer was given yet; waits for the first if `block` is given."""
        wait = None if block is None else round(block.total_seconds() * 1000)
        return self._read(">", count, wait)

    def read_own(self, after: str, count: int) -> list[Entry]:
        """This consumer's pending entries behind the id `after`."""
        return self._read(after, count, None)

    def _read(self, after: str, count: int, block: int | None) -> list[Entry]:
        def read() -> Any:
            return self._redis.xreadgroup(self._group, self._consumer, {self._stream: after}, count, block)

        reply: Any = self._with_group(read, [])
        return [_entry(*each) for each in entries_of(reply)]

    def take_over(self, cursor: str, count: int, idle: timedelta) -> tuple[str, list[Entry], list[str]]:
        """Makes entries pending for longer than `idle`, whoever has them, this consumer's own.

        Gives the next cursor (`0-0` at the end), the entries, and the ids of those that were trimmed, that is lost.
        """

        def claim() -> Any:
            least = round(idle.total_seconds() * 1000)
            return self._redis.xautoclaim(self._stream, self._group, self._consumer, least, cursor, count)

        reply: Any = self._with_group(claim, [b"0-0", [], []])
        following, entries, *deleted = reply
        lost = [each.decode() for each in deleted[0]] if deleted else []
        return following.decode(), [_entry(*each) for each in entries], lost

    def _with_group(self, command: Callable[[], Result], otherwise: Result) -> Result:
        """The command's reply; where the group is gone it is made again, at the stream's beginning."""
        with broker_errors():
            try:
                return command()
            except redis.ResponseError as error:
                if not _is_gone(error):
                    raise
            self._create_group()
            return otherwise

    def _create_group(self) -> None:
        try:
            self._redis.xgroup_create(self._stream, self._group, id="0", mkstream=True)
        except redis.ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise

    # --- settle ---------------------------------------------------------------------------------------

    def settle(self, done: Sequence[str], rejected: Sequence[tuple[Entry, SnapshotError]]) -> list[bool | None]:
        """Acknowledges `done`; moves `rejected` to their stream, with the reason; for each whether it was moved now.

        False: another listener was first. None: Redis refused it (it is out of memory); it stays pending.
        """
        with broker_errors(), self._redis.pipeline(transaction=False) as pipeline:
            if done:
                pipeline.xack(self._stream, self._group, *done)
            for entry, error in rejected:
                fields = rejection(error.outcome(), entry.fields or {}, entry.id)
                flat = [part for pair in fields.items() for part in pair]
                pipeline.eval(_REJECT, 2, self._stream, self._rejected, self._group, entry.id, *flat)
            replies = pipeline.execute(raise_on_error=False)
        moved = replies[1 if done else 0 :]
        return [None if isinstance(each, redis.RedisError) else bool(each) for each in moved]

    def now(self) -> int:
        """Redis's clock, in milliseconds, which entries' ids are made of."""
        with broker_errors():
            seconds, microseconds = self._redis.time()
        return int(seconds) * 1000 + int(microseconds) // 1000

    def waiting(self, queue: str) -> int:
        """Messages that wait in a Celery queue."""
        with broker_errors():
            return int(self._redis.llen(queue))

    # --- upkeep ---------------------------------------------------------------------------------------

    def trim(self) -> int:
        """Removes what no group owes any more; how many entries went. Approximate: Redis removes whole nodes."""
        with broker_errors():
            try:
                groups = self._redis.xinfo_groups(self._stream)
                owed = [self._lowest_owed(group) for group in groups]
                if not owed:
                    return 0
                lowest = min(owed)
                return int(self._redis.xtrim(self._stream, minid=f"{lowest[0]}-{lowest[1]}", approximate=True))
            except redis.ResponseError as error:
                if not _is_gone(error):
                    raise
                return 0

    def _lowest_owed(self, group: Mapping[str, Any]) -> tuple[int, int]:
        """What comes behind the last one delivered is owed, and what is pending."""
        milliseconds, sequence = _parts(group["last-delivered-id"])
        following = (milliseconds, sequence + 1) if sequence < _LAST_SEQUENCE else (milliseconds + 1, 0)
        pending = self._redis.xpending(self._stream, group["name"])
        return min(following, _parts(pending["min"])) if pending["pending"] else following

    def forget_consumers(self, idle: timedelta) -> int:
        """Removes consumers that have no pending entries and were idle for so long; how many."""
        return self._forget("", round(idle.total_seconds() * 1000))

    def leave(self) -> None:
        """Removes this consumer, unless it has pending entries, which another listener will take over."""
        self._forget(self._consumer, 0)

    def _forget(self, consumer: str, idle: int) -> int:
        with broker_errors():
            try:
                return int(self._redis.eval(_FORGET, 1, self._stream, self._group, consumer, idle))
            except redis.ResponseError as error:
                if not _is_gone(error):
                    raise
                return 0

    def disconnect(self) -> None:
        """Closes idle connections, so that the next command resolves the server's name anew (a failover)."""
        self._redis.connection_pool.disconnect(inuse_connections=False)


def _is_gone(error: redis.ResponseError) -> bool:
    return any(sign in str(error) for sign in _GROUP_GONE)


def _entry(key: bytes, fields: Mapping[bytes, bytes] | None) -> Entry:
    return Entry(key.decode(), fields)


def _parts(key: bytes | str) -> tuple[int, int]:
    milliseconds, _, sequence = (key.decode() if isinstance(key, bytes) else key).partition("-")
    return int(milliseconds), int(sequence or 0)
