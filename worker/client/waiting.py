"""Client steps that wait for the outcome of one request on the event stream."""

import json
import time
from collections.abc import Mapping

import redis

from ..errors import BrokerUnavailable
from .models import FailedEvent, Outcome, Rejected, Sent
from .steps import (
    BLOCK_SECONDS,
    Execute,
    Names,
    Sleep,
    Steps,
    backoff,
    command,
    is_outage,
    pairs,
    read_event,
    refusal,
)

_LOOK_BACK_AFTER = 1.0
_PAGE, _FORWARD = 1000, 50
"""Entries of one read. A rejected entry, which is only read forward, may have a megabyte."""


def wait(names: Names, sent: Sent | str, timeout: float) -> Steps[Outcome]:
    """Wait for the outcome of a request. `SnapshotClient.wait` describes the parameters and the errors.

    Reads forward from the end of the streams before the request was sent, and backward if the request may be older.
    """
    search = _Search(names, sent, timeout)
    failures = 0
    while True:
        left = search.deadline - time.monotonic()
        try:
            if outcome := (yield from search.step(max(left, 0.0))):
                return outcome
            failures = 0
            if timeout == 0 and (search.is_behind or search.is_looking_back):
                continue
        except redis.RedisError as error:
            if not is_outage(error):
                raise BrokerUnavailable(refusal(error)) from error
            left = search.deadline - time.monotonic()  # a read without an answer may have used up the time
            if left > 0:
                yield Sleep(min(backoff(failures).seconds, left))
            failures += 1
        if left <= 0:
            raise TimeoutError(f"Request {search.request_id} had no outcome within {timeout:g} s; it may still finish.")


class _Search:
    """The positions up to which the streams have been searched for one request's event or rejection."""

    def __init__(self, names: Names, sent: Sent | str, timeout: float) -> None:
        self.request_id = sent if isinstance(sent, str) else sent.request_id
        self._quoted = json.dumps(self.request_id, ensure_ascii=False)
        now = time.monotonic()
        self.deadline = now + timeout
        self._names = names
        self._sent = None if isinstance(sent, str) else sent
        self._events, self._rejected = sent.since if isinstance(sent, Sent) else ("$", "$")
        self.is_behind = False
        """Whether there may be more entries to read without waiting."""
        may_be_older = sent.may_be_older if isinstance(sent, Sent) else True
        self._back: str | None = self._events if may_be_older else None
        # Rarely needed, but even a short wait must find an event that is already in the stream.
        self._back_at = now + (min(_LOOK_BACK_AFTER, timeout / 2) if self._sent else 0.0)

    @property
    def is_looking_back(self) -> bool:
        """Whether older events are being searched now."""
        return self._back is not None and time.monotonic() >= self._back_at

    def step(self, left: float) -> Steps[Outcome | None]:
        """Make one blocking read forward, or one read backward."""
        if self._events == "$":
            (newest,) = yield Execute([command("xrevrange", self._names.events, count=1)])
            self._events = self._back = newest[0][0] if newest else "0-0"
        block = min(left, BLOCK_SECONDS)
        if self._back is not None:
            block = min(block, max(0.0, self._back_at - time.monotonic()))
        if found := (yield from self._forward(block)):
            return found
        if self.is_looking_back:
            return (yield from self._backward())
        return None

    def _forward(self, block: float) -> Steps[Outcome | None]:
        streams = {self._names.events: self._events}
        if self._sent:
            streams[self._names.rejected] = self._rejected
        # A block of 0 would wait forever.
        count = _FORWARD if self._sent else _PAGE
        (reply,) = yield Execute([command("xread", streams, count=count, block=max(1, round(block * 1000)))])
        found = pairs(reply)
        self.is_behind = any(len(entries) == count for _, entries in found)
        for name, entries in found:
            for key, fields in entries:
                if name == self._names.rejected:
                    self._rejected = key
                    self._check_rejected(fields)
                else:
                    self._events = key
                    if outcome := self._outcome(fields):
                        return outcome
        return None

    def _backward(self) -> Steps[Outcome | None]:
        (entries,) = yield Execute([command("xrevrange", self._names.events, max=self._back, count=_PAGE)])
        for _, fields in entries:
            if found := self._outcome(fields):
                return found
        last = entries[-1][0] if entries else None
        self._back = f"({last}" if last is not None and len(entries) == _PAGE else None
        return None

    def _check_rejected(self, fields: Mapping[str, str]) -> None:
        if self._sent and fields.get("origin") == self._sent.entry_id:
            reason = json.loads(fields["reason"])
            raise Rejected(reason["message"], code=reason["code"], details=reason["details"])

    def _outcome(self, fields: Mapping[str, str]) -> Outcome | None:
        # Most events belong to other requests: searching the text is cheaper than parsing it.
        if self._quoted not in fields.get("event", ""):
            return None
        event = read_event(fields)
        if event is None or event.data.request_id != self.request_id:
            return None
        if self._sent and event.data.organization_id != self._sent.organization_id:
            return None
        if isinstance(event, FailedEvent):
            return Outcome(self.request_id, None, event.data.error, event)
        return Outcome(self.request_id, event.subject, None, event)
