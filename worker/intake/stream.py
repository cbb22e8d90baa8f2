"""Reads, claims and settles entries of the Redis intake stream, without regard to what they contain.

A consumer group remembers which entries each consumer received and has not acknowledged: its pending entries.
The Redis client does not retry, because a repeated XREADGROUP would strand a batch; `read_pending` finds such a batch.
https://redis.io/docs/latest/develop/data-types/streams/
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import Any, TypeVar

import redis

from worker.errors import ContactErased, SnapshotError
from worker.intake.scripts import CLAIM, FETCH, MAX_FIELDS, READ_NEW, READ_PENDING, REJECT, SHOWN_BYTES, SHOWN_FIELDS
from worker.stores.connections import Connections, broker_errors
from worker.stores.events import entries_of, rejection
from worker.stores.wakeups import INTERACTIVE

Result = TypeVar("Result")

_GROUP_GONE = ("NOGROUP", "UNBLOCKED", "no such key")
"""Parts of the errors that Redis answers if the stream or the group is missing, or vanishes during a blocking read."""

_AFTER_ALL = f"{2**64 - 1}-0"
"""A position after every entry. The greatest of all, `...-18446744073709551615`, stands for new entries."""

BATCH_BYTES = 4_000_000
"""A batch ends with the entry that reaches this size."""
_PAGE = 1000
_HELD_SECONDS = 86_400
"""Lifetime of the set of waiting entries after the last one was added; it ends with marks that nobody removed."""


@dataclass(frozen=True, slots=True)
class IntakeEntry:
    """An entry of the stream. `fields` is None if it was deleted before it was read.

    `size` is the number of bytes of all names and values, and `field_count` their number; of an entry that is too
    large, `fields` contains only the beginning.
    """

    id: str
    fields: Mapping[bytes, bytes] | None
    size: int = 0
    field_count: int = 0

    @property
    def milliseconds(self) -> int:
        """When the entry was added, by Redis's clock, unless the producer chose the id."""
        return int(self.id.split("-", maxsplit=1)[0])


class IntakeStream:
    """The stream as seen by one consumer of the group. All methods raise BrokerUnavailable."""

    def __init__(self, connections: Connections, consumer: str) -> None:
        self._redis: Any = connections.redis
        names = connections.settings
        self._stream, self._group, self._rejected = names.requests_stream, names.consumer_group, names.rejected_stream
        self._starts = f"{names.requests_stream}:starts"
        self._held = f"{names.requests_stream}:held"
        self._limit = names.max_entry_bytes
        self._consumer = consumer

    # --- read -----------------------------------------------------------------------------------------

    def wait_for_entry(self, block: timedelta) -> list[IntakeEntry]:
        """Returns the next entry that no consumer has received yet, as soon as there is one, or none."""
        milliseconds = round(block.total_seconds() * 1000)

        def read() -> Any:
            return self._redis.xreadgroup(self._group, self._consumer, {self._stream: ">"}, 1, milliseconds)

        reply: Any = self._with_group(read, [])
        return [self._pack(*pair) for pair in entries_of(reply)]

    def _pack(self, key: bytes, fields: Mapping[bytes, bytes] | None) -> IntakeEntry:
        """Truncates an entry that is too large, as the scripts do."""
        fields = fields or {}
        size = sum(len(name) + len(value) for name, value in fields.items())
        kept = fields
        if size > self._limit or len(fields) > MAX_FIELDS:
            kept = {name[:SHOWN_BYTES]: fields[name][:SHOWN_BYTES] for name in islice(fields, SHOWN_FIELDS)}
        return IntakeEntry(key.decode(), kept, size, len(fields))

    def show_alive(self) -> None:
        """Reset this consumer's idle time, by reading pending entries after the last possible id: there are none.

        Before 7.2, a read that waits in vain does not do so, and a listener without work would look dead.
        """

        def read() -> Any:
            return self._redis.xreadgroup(self._group, self._consumer, {self._stream: _AFTER_ALL}, 1)

        self._with_group(read, None)

    def read_new(self, count: int) -> tuple[list[IntakeEntry], int]:
        """Returns entries that no consumer has received yet, and the number of messages in the interactive queue."""
        limits = (self._limit, BATCH_BYTES, self._group, self._consumer, count)

        def read() -> Any:
            return self._redis.eval(READ_NEW, 2, self._stream, INTERACTIVE, *limits)

        reply: Any = self._with_group(read, [[], 0])
        entries, waiting = reply
        return [_entry(*packed) for packed in entries], int(waiting)

    def read_pending(self, after: str, count: int) -> list[IntakeEntry]:
        """Returns this consumer's pending entries after the id `after`."""
        limits = (self._limit, BATCH_BYTES, self._group, self._consumer, after, count)

        def read() -> Any:
            return self._redis.eval(READ_PENDING, 1, self._stream, *limits)

        reply: Any = self._with_group(read, [])
        return [_entry(*packed) for packed in reply]

    def claim(self, cursor: str, count: int, idle: timedelta) -> tuple[str, list[str], list[str]]:
        """Claims entries that have been pending for longer than `idle` with any consumer, without reading them.

        Returns the next cursor (`0-0` at the end), the ids, and the ids of entries that were trimmed, that is lost.
        """

        def claim() -> Any:
            least = round(idle.total_seconds() * 1000)
            return self._redis.eval(CLAIM, 1, self._stream, self._group, self._consumer, least, cursor, count)

        reply: Any = self._with_group(claim, [b"0-0", [], []])
        next_cursor, ids, *deleted = reply
        lost = deleted[0] if deleted else []
        return next_cursor.decode(), [key.decode() for key in ids], [key.decode() for key in lost]

    def fetch(self, ids: Sequence[str]) -> list[IntakeEntry]:
        """Returns entries by their ids: the first ones, ending with the one that reaches BATCH_BYTES."""
        with broker_errors():
            found = self._redis.eval(FETCH, 1, self._stream, self._limit, BATCH_BYTES, *ids)
        return [_entry(*packed) for packed in found]

    def keep(self, ids: Iterable[str]) -> None:
        """Restart the idle time of this consumer's pending entries, so that no other listener claims them."""
        remaining = iter(ids)
        with broker_errors(), self._redis.pipeline(transaction=False) as pipeline:
            while page := list(islice(remaining, _PAGE)):
                pipeline.xclaim(self._stream, self._group, self._consumer, 0, page, justid=True)
            pipeline.execute(raise_on_error=False)  # after a flush there is no group

    def _with_group(self, command: Callable[[], Result], otherwise: Result) -> Result:
        """Returns the command's reply. If the group is missing, creates it at the stream's beginning."""
        with broker_errors():
            try:
                return command()
            except redis.ResponseError as error:
                if not is_group_gone(error):
                    raise
            self._create_group()
            return otherwise

    def _create_group(self) -> None:
        try:
            self._redis.xgroup_create(self._stream, self._group, id="0", mkstream=True)
        except redis.ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise

    # --- starts of claimed entries --------------------------------------------------------------------

    def unfinished_starts(self, ids: Sequence[str]) -> list[int]:
        """Returns for each claimed entry how often it was started since it was claimed first, and not finished."""
        with broker_errors():
            return [int(count or 0) for count in self._redis.hmget(self._starts, ids)]

    def begin(self, entry_id: str) -> int:
        """Counts a start of a claimed entry, and returns the number of unfinished starts, with this one."""
        with broker_errors():
            return int(self._redis.hincrby(self._starts, entry_id, 1))

    def finish(self, entry_id: str) -> None:
        """Removes the count: whatever the entry's result is, it did not end the listener."""
        with broker_errors():
            self._redis.hdel(self._starts, entry_id)

    # --- entries that wait in a listener --------------------------------------------------------------

    def mark_held(self, ids: Sequence[str]) -> None:
        """Notes that entries were delivered and wait, so that they are not suspects if their listener dies.

        Nothing happens if Redis refuses (out of memory): they are suspects then, and run alone.
        """
        with broker_errors(), self._redis.pipeline(transaction=False) as pipeline:
            pipeline.sadd(self._held, *ids)
            pipeline.expire(self._held, _HELD_SECONDS)
            pipeline.execute(raise_on_error=False)

    def mark_started(self, ids: Sequence[str]) -> None:
        """Notes that entries which waited are about to be processed."""
        with broker_errors():
            self._redis.srem(self._held, *ids)

    def are_held(self, ids: Sequence[str]) -> list[bool]:
        """Returns for each entry whether it waited in a listener, and was not started."""
        with broker_errors():
            return [bool(each) for each in self._redis.smismember(self._held, ids)]

    # --- settle ---------------------------------------------------------------------------------------

    def settle(self, done: Sequence[str], rejected: Sequence[tuple[IntakeEntry, SnapshotError]]) -> list[bool | None]:
        """Acknowledges `done` and moves `rejected` to the stream of rejected entries, each with its reason.

        Returns for each rejected entry True if it was moved, False if another listener had moved it, and None if Redis
        refused (out of memory), in which case it stays pending. An entry of an erased contact is deleted.
        """
        with broker_errors(), self._redis.pipeline(transaction=False) as pipeline:
            if done:
                pipeline.xack(self._stream, self._group, *done)
            for entry, error in rejected:
                fields = rejection(error.outcome(), entry.fields or {}, entry.id)
                flat = [part for pair in fields.items() for part in pair]
                pipeline.eval(REJECT, 2, self._stream, self._rejected, self._group, entry.id, *flat)
            replies = pipeline.execute(raise_on_error=False)
            moved = [None if isinstance(each, redis.RedisError) else bool(each) for each in replies[bool(done) :]]
            pairs = zip(rejected, moved, strict=True)
            if erased := [entry.id for (entry, error), was in pairs if was and isinstance(error, ContactErased)]:
                self._redis.xdel(self._stream, *erased)  # other entries stay until they are trimmed
        return moved

    def now(self) -> int:
        """Returns Redis's time in milliseconds, the unit and the clock of entry ids."""
        with broker_errors():
            seconds, microseconds = self._redis.time()
        return int(seconds) * 1000 + int(microseconds) // 1000

    def disconnect(self) -> None:
        """Closes idle connections, so that the next command resolves the server's name again after a failover."""
        self._redis.connection_pool.disconnect(inuse_connections=False)


def is_group_gone(error: redis.ResponseError) -> bool:
    """Whether a command failed because the stream or the group does not exist."""
    return any(part in str(error) for part in _GROUP_GONE)


def _entry(key: bytes, size: int, field_count: int, flat: Sequence[bytes]) -> IntakeEntry:
    """Returns the entry of a script's reply."""
    fields = None if size < 0 else dict(zip(flat[::2], flat[1::2], strict=True))
    return IntakeEntry(key.decode(), fields, max(size, 0), field_count)
