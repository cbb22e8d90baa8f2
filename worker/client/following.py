"""Client steps that follow all events as a consumer in a group."""

import logging
import time
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import redis

from ..errors import BrokerUnavailable, InvalidRequest
from ..stores.redis_errors import describe, name_of
from .models import Event
from .steps import (
    BLOCK_SECONDS,
    Deliver,
    Execute,
    Names,
    Sleep,
    Steps,
    backoff,
    command,
    is_other_event,
    is_outage,
    pairs,
    read_event,
    refusal,
)

log = logging.getLogger(__name__)

_GROUP_GONE = ("NOGROUP", "UNBLOCKED", "no such key")
_REMEMBERED = 200_000
"""How many event ids an iterator remembers. A repeat after more events than that is delivered again."""


def follow(
    names: Names, group: str, consumer: str, *, take_over_after: float, timeout: float | None
) -> Generator[Execute | Sleep | Deliver, Any, None]:
    """Yield the events for one consumer: first its own pending ones, then those abandoned by others, then new ones.

    An event is acknowledged when the next one is requested. `SnapshotClient.events` describes the parameters.
    """
    if not take_over_after > 0:
        raise InvalidRequest(
            [{"field": "take_over_after", "message": f"must be greater than 0, not {take_over_after:g}"}]
        )
    state = _Position(names.events, group, consumer, take_over_after)
    idle_since = time.monotonic()
    failures = 0
    group_gone = False
    while True:
        is_over = timeout is not None and time.monotonic() - idle_since >= timeout
        if is_over and (failures or state.is_caught_up):
            return
        try:
            if group_gone:
                yield from state.create_group()
                group_gone = False
            entries = yield from state.read(timeout)
            if entries:
                idle_since = time.monotonic()
                yield from state.deliver(entries)
                idle_since = time.monotonic()
            failures = 0
        except redis.RedisError as error:
            if isinstance(error, redis.ResponseError) and any(sign in str(error) for sign in _GROUP_GONE):
                group_gone = True
                continue
            if not is_outage(error):
                raise BrokerUnavailable(refusal(error)) from error
            log.log(logging.INFO if failures else logging.WARNING, "Redis unavailable: %s", describe(error))
            state.start_over()
            yield backoff(failures)
            failures += 1


class _Position:
    """The position of a consumer in the stream."""

    def __init__(self, stream: str, group: str, consumer: str, take_over_after: float) -> None:
        self._stream, self._group, self._consumer = stream, group, consumer
        self._idle_ms = round(take_over_after * 1000)
        self._every = take_over_after
        self._seen: dict[str, None] = {}
        self.start_over()

    def start_over(self) -> None:
        """Read the pending entries again, because a lost reply has left some of them unread."""
        self._after = "0"
        self._cursor = "0-0"
        self._claim_at = 0.0
        self.is_caught_up = False
        """Whether everything that was there has been read."""

    def read(self, timeout: float | None) -> Steps[Sequence[tuple[str, Any]]]:
        if self._after != ">":
            entries = yield from self._read(self._after, None)
            self._after = entries[-1][0] if entries else ">"
            return entries
        if time.monotonic() >= self._claim_at:
            args = (self._stream, self._group, self._consumer, self._idle_ms)
            (reply,) = yield Execute([command("xautoclaim", *args, start_id=self._cursor, count=100)])
            self._cursor = reply[0]
            if self._cursor == "0-0":
                self._claim_at = time.monotonic() + self._every
            claimed: Sequence[tuple[str, Any]] = reply[1]
            return claimed
        seconds = BLOCK_SECONDS if timeout is None else min(BLOCK_SECONDS, timeout)
        new = yield from self._read(">", seconds)
        self.is_caught_up = not new
        return new

    def _read(self, after: str, block: float | None) -> Steps[Sequence[tuple[str, Any]]]:
        wait_ms = None if block is None else max(1, round(block * 1000))
        args = (self._group, self._consumer, {self._stream: after})
        (reply,) = yield Execute([command("xreadgroup", *args, count=100, block=wait_ms)])
        found = pairs(reply)
        return found[0][1] if found else []

    def deliver(self, entries: Sequence[tuple[str, Any]]) -> Generator[Execute | Deliver, Any, None]:
        """Deliver and acknowledge the events of entries.

        If that takes long, the rest is read again, before another consumer takes it over and both process it.
        """
        stop_at = time.monotonic() + self._every / 2
        for number, (key, fields) in enumerate(entries):
            if number and time.monotonic() > stop_at:
                self.start_over()
                return
            if event := self._unseen(key, fields):
                yield Deliver(event)
            yield Execute([command("xack", self._stream, self._group, key)])

    def _unseen(self, key: str, fields: Mapping[str, str] | None) -> Event | None:
        """Return the event of an entry, unless this iterator has already delivered it."""
        event = read_event(fields) if fields else None
        if event is None:
            if not (fields and is_other_event(fields)):
                log.warning("Ignoring entry %s of the event stream: it is not an event", key)
            return None
        if event.id in self._seen:
            return None
        self._seen[event.id] = None
        if len(self._seen) > _REMEMBERED:
            del self._seen[next(iter(self._seen))]
        return event

    def create_group(self) -> Steps[None]:
        """Create the group at the start of the stream: after a flush, events are emitted again, known ones ignored."""
        try:
            yield Execute([command("xgroup_create", self._stream, self._group, id="0", mkstream=True)])
        except redis.ResponseError as error:
            if name_of(error) != "BUSYGROUP":
                raise
