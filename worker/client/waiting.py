"""The Python client's steps of waiting for one request's outcome, by the event stream."""

import json
import time
from collections.abc import Mapping

import redis

from worker.client.models import FailedEvent, Outcome, Rejected, Sent
from worker.client.steps import (
    BLOCK_SECONDS,
    UNREACHABLE,
    Do,
    Names,
    Pause,
    Steps,
    command,
    pairs,
    pause,
    read_event,
    refusal,
)
from worker.errors import BrokerUnavailable

_LOOK_BACK_AFTER = 1.0
_PAGE = 1000


def wait(names: Names, sent: Sent | str, timeout: float) -> Steps[Outcome]:
    """Reads on from where the streams ended before the request was sent, and back where it may be older."""
    search = _Search(names, sent, timeout)
    failures = 0
    while True:
        left = search.deadline - time.monotonic()
        try:
            if found := (yield from search.look(max(left, 0.0))):
                return found
            failures = 0
        except redis.AuthenticationError as error:  # a ConnectionError to redis-py, but no outage
            raise BrokerUnavailable(refusal(error)) from error
        except UNREACHABLE:
            left = search.deadline - time.monotonic()  # a read that hung may have used it up
            if left > 0:
                yield Pause(min(pause(failures).seconds, left))
            failures += 1
        except redis.RedisError as error:
            raise BrokerUnavailable(refusal(error)) from error
        if left <= 0:
            raise TimeoutError(f"Request {search.request_id} has no outcome within {timeout:g} s; it may come yet.")


class _Search:
    """Where one request's event, or rejection, has been looked for."""

    def __init__(self, names: Names, sent: Sent | str, timeout: float) -> None:
        self.request_id = sent if isinstance(sent, str) else sent.request_id
        self._quoted = json.dumps(self.request_id, ensure_ascii=False)
        now = time.monotonic()
        self.deadline = now + timeout
        self._names = names
        self._sent = None if isinstance(sent, str) else sent
        self._events, self._rejected = sent.since if isinstance(sent, Sent) else ("$", "$")
        may_be_older = sent.may_be_older if isinstance(sent, Sent) else True
        self._back: str | None = self._events if may_be_older else None
        # Seldom needed; but a short wait is to find what is there already, too.
        self._back_at = now + (min(_LOOK_BACK_AFTER, timeout / 2) if self._sent else 0.0)

    def look(self, left: float) -> Steps[Outcome | None]:
        """One read forward, which waits a while, or back."""
        if self._events == "$":
            (newest,) = yield Do([command("xrevrange", self._names.events, count=1)])
            self._events = self._back = newest[0][0] if newest else "0-0"
        block = min(left, BLOCK_SECONDS)
        if self._back is not None:
            block = min(block, max(0.0, self._back_at - time.monotonic()))
        if found := (yield from self._forward(block)):
            return found
        if self._back is not None and time.monotonic() >= self._back_at:
            return (yield from self._backward())
        return None

    def _forward(self, block: float) -> Steps[Outcome | None]:
        streams = {self._names.events: self._events}
        if self._sent:
            streams[self._names.rejected] = self._rejected
        # 0 would be for ever.
        (reply,) = yield Do([command("xread", streams, count=_PAGE, block=max(1, round(block * 1000)))])
        for name, entries in pairs(reply):
            for key, fields in entries:
                if name == self._names.rejected:
                    self._rejected = key
                    self._check_rejected(fields)
                else:
                    self._events = key
                    if found := self._outcome(fields):
                        return found
        return None

    def _backward(self) -> Steps[Outcome | None]:
        (entries,) = yield Do([command("xrevrange", self._names.events, max=self._back, count=_PAGE)])
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
        # Most events are others': their text is looked at, not read.
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
