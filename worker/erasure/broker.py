"""Removes a person's data from Redis: waiting and unacknowledged messages, intake entries, rejected entries, events."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import redis

from worker.erasure.identifiers import Identifiers
from worker.erasure.streams import delete_acknowledged_neighbours, move_neighbours
from worker.jobs.slices import Slice
from worker.service import Service
from worker.stores.connections import broker_errors
from worker.stores.stream_ids import LAST_PART
from worker.stores.wakeups import BULK, INTERACTIVE, QUEUES

_PAGE, _PAGE_BYTES = 500, 16_000_000
_READ = 20
"""Entries of one read, if they may have over a megabyte. Those of events are small."""
_LAST_ID = f"{LAST_PART}-{LAST_PART}".encode()
"""Redis refuses a range that begins after the greatest id."""
_UNACKED, _UNACKED_INDEX = b"unacked", "unacked_index"
"""kombu's defaults: a hash of the messages that workers hold, and when each was taken."""
_PREFIXES = ("snapshots", "unacked", "_kombu")
"""Prefixes of the names of our keys and of Celery's."""


class Broker:
    """Finds and removes one person's data in Redis. All methods raise BrokerUnavailable."""

    def __init__(self, service: Service, job_slice: Slice, person: Identifiers) -> None:
        self._job_slice = job_slice
        self._person = person
        self._redis: Any = service.connections.redis
        names = service.settings
        self._group = names.consumer_group
        self._requests, self._events = names.requests_stream, names.events_stream
        self._streams = (names.requests_stream, names.rejected_stream, names.events_stream)

    def search(self, counts: Counter[str], others: Counter[str] | None = None) -> bool:
        """Continue to search all keys and remove the person's items; return whether all keys were searched.

        Streams come last, because workers move messages from lists to them. `others`: receives the numbers of items
        found in keys of other programs, which are not removed.
        """
        state = self._job_slice.checkpoint.setdefault("redis", {"stream": 0, "after": "-", "cursor": None})
        with broker_errors():
            while state["cursor"] != 0:
                if self._job_slice.is_over:
                    return False
                state["cursor"], keys = self._redis.scan(state["cursor"] or 0, count=_PAGE)
                for key in keys:
                    self._search_key(key, counts, others if others is not None else Counter())
            if not state.get("queues"):
                # Workers may have moved a message to a list that had been searched before.
                for queue in (INTERACTIVE, BULK):
                    self._search_key(queue.encode(), counts, Counter())
                state["queues"] = True
            while state["stream"] < len(self._streams):
                if self._job_slice.is_over:
                    return False
                self._search_stream(state, counts)
        del self._job_slice.checkpoint["redis"]
        return True

    def _search_stream(self, state: dict[str, Any], counts: Counter[str]) -> None:
        stream = self._streams[state["stream"]]
        try:
            entries, after = self._page(stream, state["after"], _PAGE if stream == self._events else _READ)
        except redis.ResponseError:  # not a stream, so another program's
            entries, after = [], None
        doomed = [key for key, fields in entries if self._is_persons(_parts(fields))]
        if doomed:
            if stream == self._requests:
                self._acknowledge(stream, doomed)
            counts[f"redis:{stream}"] += self._redis.xdel(stream, *doomed)
            forget = delete_acknowledged_neighbours if stream == self._requests else move_neighbours
            forget(self._redis, stream, doomed[0], doomed[-1])
        if after:
            state["after"] = after
        else:
            state["stream"], state["after"] = state["stream"] + 1, "-"

    def _page(self, stream: str | bytes, after: str, count: int) -> tuple[list[Any], str | None]:
        """Return the next entries, up to 500 or 16 MB, read `count` at a time, and where to go on; None at the end."""
        entries: list[Any] = []
        size = 0
        while len(entries) < _PAGE and size < _PAGE_BYTES:
            found = self._redis.xrange(stream, min=after, count=count)
            entries += found
            if len(found) < count or found[-1][0] == _LAST_ID:
                return entries, None
            size += sum(len(part) for _, fields in found for part in _parts(fields))
            after = f"({found[-1][0].decode()}"
        return entries, after

    def _acknowledge(self, stream: str, entries: list[bytes]) -> None:
        try:
            self._redis.xack(stream, self._group, *entries)
        except redis.ResponseError as error:
            if "NOGROUP" not in str(error):
                raise

    def _search_key(self, key: bytes, counts: Counter[str], others: Counter[str]) -> None:
        name = key.decode(errors="replace")
        if name in self._streams:
            return
        is_ours = name.startswith(_PREFIXES) or name in QUEUES
        try:
            self._search_items(key, name, counts if is_ours else others, is_ours=is_ours)
        except (redis.exceptions.NoPermissionError, redis.ResponseError):
            if is_ours:
                raise

    def _search_items(self, key: bytes, name: str, counts: Counter[str], *, is_ours: bool) -> None:
        kind = self._redis.type(key).decode()
        for item in self._items(key, kind):
            if self._is_persons([key, *_parts(item)]):
                if is_ours:
                    self._remove(key, kind, item)
                counts[f"redis:{_place(name)}"] += 1

    def _items(self, key: bytes, kind: str) -> Iterable[Any]:
        """Return the items of a key: values, pairs of field and value, or members."""
        client = self._redis
        match kind:
            case "string":
                return [client.get(key) or b""]
            case "list":  # selected before any is removed, because a removal moves the following ones
                return [value for value in self._list(key) if self._is_persons([value])]
            case "hash":
                return list(client.hgetall(key).items())
            case "set":
                return list(client.smembers(key))
            case "zset":
                return list(client.zrange(key, 0, -1))
            case "stream":
                return self._entries(key)
            case _:
                return []

    def _remove(self, key: bytes, kind: str, item: Any) -> None:
        client = self._redis
        removals: dict[str, Callable[[], Any]] = {
            "string": lambda: client.delete(key),
            "list": lambda: client.lrem(key, 1, item),
            "hash": lambda: client.hdel(key, item[0]),
            "set": lambda: client.srem(key, item),
            "zset": lambda: client.zrem(key, item),
            "stream": lambda: client.xdel(key, item[0]),
        }
        removals[kind]()
        if key == _UNACKED:
            client.zrem(_UNACKED_INDEX, item[0])

    def _list(self, key: bytes) -> Iterator[bytes]:
        """Yield from the left, where messages are added, so that none is missed while others are added or taken."""
        first = 0
        while values := self._redis.lrange(key, first, first + _PAGE - 1):
            yield from values
            first += len(values)

    def _entries(self, key: bytes) -> Iterator[Any]:
        """Yield the entries of a stream, such as one of ours that was moved aside."""
        after: str | None = "-"
        while after:
            entries, after = self._page(key, after, _READ)
            yield from entries

    def _is_persons(self, parts: Iterable[bytes]) -> bool:
        return self._person.is_persons(b"\0".join(parts))


def _parts(item: Any) -> list[bytes]:
    """Return all bytes of an item, which may be a pair, or the id and fields of an entry."""
    if isinstance(item, bytes):
        return [item]
    if isinstance(item, Mapping):
        item = [*item, *item.values()]
    return [part for each in item or () for part in _parts(each)]


def _place(name: str) -> str:
    """Return the name of a key without ids, for counts that anyone may read."""
    return name if name in (*QUEUES, _UNACKED.decode(), _UNACKED_INDEX) else f"{name.split(':', 1)[0]}:*"
