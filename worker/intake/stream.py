"""Reads, claims, acknowledges and rejects entries of the Redis intake stream, whatever their content.

A consumer group remembers which entries each consumer received and has not acknowledged: its pending entries. The Redis
client does not retry: if the reply to XREADGROUP is lost, a second XREADGROUP returns the next entries, and those of
the lost reply stay pending until they are tried again.
https://redis.io/docs/latest/develop/data-types/streams/
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import Any, TypeVar

import redis

from worker.errors import ContactErased, SnapshotError
from worker.intake.entries import original_of
from worker.intake.scripts import CLAIM, FETCH, MAX_FIELDS, READ_NEW, REJECT, SHOWN_BYTES, SHOWN_FIELDS
from worker.stores.connections import Connections, broker_errors
from worker.stores.events import entries_of, rejection
from worker.stores.wakeups import BULK, INTERACTIVE

Result = TypeVar("Result")

_GROUP_GONE = ("NOGROUP", "UNBLOCKED", "no such key")
"""Texts in the errors with which Redis answers if the stream or group is missing or vanishes during a blocking read."""

_AFTER_ALL = f"{2**64 - 1}-0"
"""An id after every entry. (The greatest possible id, `...-18446744073709551615`, means new entries.)"""

BATCH_BYTES = 4_000_000
"""A batch ends with the entry that reaches this size."""
_PAGE = 1000
_HELD_SECONDS = 86_400
"""Lifetime of the set of waiting entries after the last addition, so that marks which were never removed expire."""


@dataclass(frozen=True, slots=True)
class IntakeEntry:
    """An entry of the stream. `fields` is None if it was deleted before it was read.

    `size` is the number of bytes of all names and values, and `field_count` the number of fields. If the entry is too
    large, `fields` contains only its beginning.
    """

    id: str
    fields: Mapping[bytes, bytes] | None
    size: int = 0
    field_count: int = 0

    @property
    def milliseconds(self) -> int:
        """When the entry was added, in ms since 1970 by Redis's clock. Wrong if the producer chose the id."""
        return int(self.id.split("-", maxsplit=1)[0])


class IntakeStream:
    """The intake stream for one consumer of the group. All methods raise BrokerUnavailable."""

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
        """Wait up to `block` for an entry that no consumer has received yet; return it, or an empty list."""
        milliseconds = round(block.total_seconds() * 1000)

        def read() -> Any:
            return self._redis.xreadgroup(self._group, self._consumer, {self._stream: ">"}, 1, milliseconds)

        reply: Any = self._with_group(read, [])
        return [self._pack(*pair) for pair in entries_of(reply)]

    def _pack(self, key: bytes, fields: Mapping[bytes, bytes] | None) -> IntakeEntry:
        """Return the entry, truncated as the scripts do it if it is too large."""
        fields = fields or {}
        size = sum(len(name) + len(value) for name, value in fields.items())
        kept = fields
        if size > self._limit or len(fields) > MAX_FIELDS:
            kept = {name[:SHOWN_BYTES]: fields[name][:SHOWN_BYTES] for name in islice(fields, SHOWN_FIELDS)}
        return IntakeEntry(key.decode(), kept, size, len(fields))

    def show_alive(self) -> None:
        """Reset this consumer's idle time with a read that returns nothing: pending entries after the last possible id.

        Before Redis 7.2, a blocking read without a result does not reset it, so an idle listener would look dead.
        """

        def read() -> Any:
            return self._redis.xreadgroup(self._group, self._consumer, {self._stream: _AFTER_ALL}, 1)

        self._with_group(read, None)

    def read_new(self, count: int) -> tuple[list[IntakeEntry], int]:
        """Return up to `count` entries that no consumer has received yet, and the length of the interactive queue."""
        limits = (self._limit, BATCH_BYTES, self._group, self._consumer, count)

        def read() -> Any:
            return self._redis.eval(READ_NEW, 2, self._stream, INTERACTIVE, *limits)

        reply: Any = self._with_group(read, [[], 0])
        entries, waiting = reply
        return [_entry(*packed) for packed in entries], int(waiting)

    def bulk_waiting(self) -> int:
        """Return the number of messages in the bulk queue."""
        with broker_errors():
            return int(self._redis.llen(BULK))

    def pending_ids(self, after: str, count: int) -> list[str]:
        """Return the ids of up to `count` of this consumer's pending entries after the id `after`."""

        def read() -> Any:
            return self._redis.xpending_range(self._stream, self._group, f"({after}", "+", count, self._consumer)

        found: Any = self._with_group(read, [])
        return [each["message_id"].decode() for each in found]

    def fetch_again(self, ids: Sequence[str]) -> list[IntakeEntry]:
        """Return pending entries of this consumer as `fetch` does, and restart their idle time.

        This keeps other listeners from claiming entries that this one is still trying. A listener that claimed an entry
        just before tries it as well. The idle time of deleted entries is not restarted, because Redis would then remove
        their ids from the list of pending entries.
        """
        entries = self.fetch(ids)
        self.reset_idle(entry.id for entry in entries if entry.fields is not None)
        return entries

    def claim(self, cursor: str, count: int, idle: timedelta) -> tuple[str, list[str], list[str]]:
        """Claim entries that have been pending with any consumer for longer than `idle`, without reading them.

        Returns the next cursor (`0-0` at the end), the ids of the claimed entries, and the ids of entries that were
        trimmed from the stream and so are lost.
        """

        def claim() -> Any:
            least = round(idle.total_seconds() * 1000)
            return self._redis.eval(CLAIM, 1, self._stream, self._group, self._consumer, least, cursor, count)

        reply: Any = self._with_group(claim, [b"0-0", [], []])
        next_cursor, ids, *deleted = reply
        lost = deleted[0] if deleted else []
        return next_cursor.decode(), [key.decode() for key in ids], [key.decode() for key in lost]

    def fetch(self, ids: Sequence[str]) -> list[IntakeEntry]:
        """Return the entries with these ids, in order, up to and including the one that reaches BATCH_BYTES."""
        with broker_errors():
            found = self._redis.eval(FETCH, 1, self._stream, self._limit, BATCH_BYTES, *ids)
        return [_entry(*packed) for packed in found]

    def reset_idle(self, ids: Iterable[str]) -> None:
        """Restart the idle time of this consumer's pending entries, so that no other listener claims them."""
        remaining = iter(ids)
        with broker_errors(), self._redis.pipeline(transaction=False) as pipeline:
            while page := list(islice(remaining, _PAGE)):
                pipeline.xclaim(self._stream, self._group, self._consumer, 0, page, justid=True)
            pipeline.execute(raise_on_error=False)  # after a flush there is no group

    def _with_group(self, command: Callable[[], Result], otherwise: Result) -> Result:
        """Return the command's reply.

        If the group is missing, create it at the stream's beginning and return `otherwise`.
        """
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
        """Return for each claimed entry how often it was started, but not finished, since it was first claimed."""
        with broker_errors():
            return [int(count or 0) for count in self._redis.hmget(self._starts, ids)]

    def begin(self, entry_id: str) -> int:
        """Count a start of a claimed entry; return the number of unfinished starts, including this one."""
        with broker_errors():
            return int(self._redis.hincrby(self._starts, entry_id, 1))

    def finish(self, entry_id: str) -> None:
        """Remove the count of starts: whatever the entry's result, it did not crash the listener."""
        with broker_errors():
            self._redis.hdel(self._starts, entry_id)

    # --- entries that wait in a listener --------------------------------------------------------------

    def mark_held(self, ids: Sequence[str]) -> None:
        """Record that entries were delivered and wait, so that they are not suspects if their listener dies.

        If Redis refuses, because it is out of memory, nothing is recorded: they will be suspects and run alone.
        """
        with broker_errors(), self._redis.pipeline(transaction=False) as pipeline:
            pipeline.sadd(self._held, *ids)
            pipeline.expire(self._held, _HELD_SECONDS)
            pipeline.execute(raise_on_error=False)

    def mark_started(self, ids: Sequence[str]) -> None:
        """Record that waiting entries are about to be processed."""
        with broker_errors():
            self._redis.srem(self._held, *ids)

    def are_held(self, ids: Sequence[str]) -> list[bool]:
        """Return for each entry whether it waited in a listener and was not started."""
        with broker_errors():
            return [bool(each) for each in self._redis.smismember(self._held, ids)]

    # --- settle ---------------------------------------------------------------------------------------

    def settle(self, done: Sequence[str], rejected: Sequence[tuple[IntakeEntry, SnapshotError]]) -> list[bool | None]:
        """Acknowledge `done`, and move `rejected` to the stream of rejected entries, each with its reason.

        Returns for each rejected entry True if it was moved, False if another listener had already moved it, and None
        if Redis was out of memory, in which case it stays pending. An entry of an erased contact is deleted instead.
        """
        with broker_errors(), self._redis.pipeline(transaction=False) as pipeline:
            if done:
                pipeline.xack(self._stream, self._group, *done)
            for entry, error in rejected:
                fields = rejection(error.outcome(), *original_of(entry.fields or {}, entry.id))
                flat = [part for pair in fields.items() for part in pair]
                pipeline.eval(REJECT, 2, self._stream, self._rejected, self._group, entry.id, *flat)
            replies = pipeline.execute(raise_on_error=False)
            moved = [None if isinstance(each, redis.RedisError) else bool(each) for each in replies[bool(done) :]]
            pairs = zip(rejected, moved, strict=True)
            if erased := [entry.id for (entry, error), was in pairs if was and isinstance(error, ContactErased)]:
                self._redis.xdel(self._stream, *erased)  # other entries stay until they are trimmed
        return moved

    def now(self) -> int:
        """Return Redis's time in ms since 1970, which is the clock and unit of entry ids."""
        with broker_errors():
            seconds, microseconds = self._redis.time()
        return int(seconds) * 1000 + int(microseconds) // 1000

    def disconnect(self) -> None:
        """Close idle connections, so that the next command resolves the server's name again after a failover."""
        self._redis.connection_pool.disconnect(inuse_connections=False)


def is_group_gone(error: redis.ResponseError) -> bool:
    """Return whether a command failed because the stream or the group does not exist."""
    return any(part in str(error) for part in _GROUP_GONE)


def _entry(key: bytes, size: int, field_count: int, flat: Sequence[bytes]) -> IntakeEntry:
    """Read an entry from the reply of a script."""
    fields = None if size < 0 else dict(zip(flat[::2], flat[1::2], strict=True))
    return IntakeEntry(key.decode(), fields, max(size, 0), field_count)
