"""The protocol of the Python client without I/O: generators that yield Redis commands and receive the replies.

The synchronous and the asyncio client drive the same generators (https://sans-io.readthedocs.io).
"""

import random
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import redis
from pydantic import ValidationError
from pydantic_core import from_json

from ..stores.redis_errors import describe, name_of
from .models import EVENT, Event

Result = TypeVar("Result")

UNREACHABLE = (redis.ConnectionError, redis.TimeoutError)
PASSING = frozenset({"NOREPLICAS", "READONLY", "MASTERDOWN"})
"""Refusals that pass within seconds after a failover: the new primary has no replica yet, or the old one is left."""
_WAITED_FOR = PASSING | {"MISCONF", "UNBLOCKED"}
"""Refusals that a reader waits for as for an outage: also those of a full disk, and of a primary that is demoted."""
BLOCK_SECONDS = 2.0
"""Duration of one blocking read. Must stay below the socket timeout."""

_SOURCE, _OF_REQUESTS = "/training/snapshots", ("training.snapshot.completed", "training.snapshot.failed")

Command = tuple[str, tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Execute:
    """The step to run these commands in one pipeline.

    The generator receives the list of replies, or the error is thrown into it.
    """

    commands: Sequence[Command]


@dataclass(frozen=True, slots=True)
class Sleep:
    """The step to wait for this many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Deliver:
    """The step to hand an event to the caller.

    The generator continues when the caller asks for the next event.
    """

    event: Event


@dataclass(frozen=True, slots=True)
class Names:
    """The names of the streams in Redis. They must match the settings of the service.

    Example:
        SnapshotClient(url, names=Names(requests="eu:requests", rejected="eu:rejected", events="eu:events"))
    """

    requests: str = "snapshots:requests"
    """The stream of requests: SNAPSHOTS_REQUESTS_STREAM."""
    rejected: str = "snapshots:rejected"
    """The stream in which the service records invalid requests: SNAPSHOTS_REJECTED_STREAM."""
    events: str = "snapshots:events"
    """The stream of events: SNAPSHOTS_EVENTS_STREAM."""


Steps = Generator[Execute | Sleep, Any, Result]


class Driver(Generic[Result]):
    """Drives a generator of steps: `step` is the one to carry out now, until `done`; then `result` is set."""

    def __init__(self, steps: Generator[Execute | Sleep | Deliver, Any, Result] | Steps[Result]) -> None:
        self._steps: Generator[Any, Any, Result] = steps
        self.done = False
        self.result: Any = None
        self.step: Any = None
        self.send(None)

    def send(self, reply: Any) -> None:
        """Pass the result of the current step to the generator. Raises the generator's errors."""
        try:
            self.step = self._steps.send(reply)
        except StopIteration as end:
            self.done, self.result = True, end.value

    def throw(self, error: Exception) -> None:
        """Throw the error of the current step into the generator. Raises the generator's errors."""
        try:
            self.step = self._steps.throw(error)
        except StopIteration as end:
            self.done, self.result = True, end.value


def command(name: str, *args: Any, **kwargs: Any) -> Command:
    """Describe a Redis command for `Execute`, by the name and arguments of its redis-py method.

    Example:
        Execute([command("xadd", "snapshots:requests", {"type": "snapshot.requested", "data": data})])
    """
    return name, args, kwargs


def backoff(attempt: int) -> Sleep:
    """Return the wait after a failed attempt: exponential with jitter, up to 2 s."""
    return Sleep(min(2.0, 0.1 * 2.0 ** min(attempt, 10)) * random.uniform(0.5, 1.0))


def raise_first_error(replies: list[Any]) -> list[Any]:
    """Return the replies, or raise the first error among them as Redis sent it (redis-py would add a prefix)."""
    for reply in replies:
        if isinstance(reply, redis.RedisError):
            raise reply
    return replies


def is_outage(error: redis.RedisError) -> bool:
    """Return whether Redis is unreachable, or refuses commands because of a failover or a full disk."""
    if isinstance(error, redis.AuthenticationError):  # redis-py derives it from ConnectionError
        return False
    return isinstance(error, UNREACHABLE) or name_of(error) in _WAITED_FOR


def refusal(error: redis.RedisError) -> str:
    """Describe an error reply by its kind, without the content of any key."""
    return f"Redis refused the command ({describe(error)})."


def read_event(fields: Mapping[str, str]) -> Event | None:
    """Parse the event of a stream entry. Returns None if the entry holds no event of this service."""
    try:
        return EVENT.validate_json(fields["event"])
    except (KeyError, ValidationError):
        return None


def is_other_event(fields: Mapping[str, str]) -> bool:
    """Return whether an entry holds an event of this service that is not about a request, such as an export's end."""
    try:
        event = from_json(fields["event"])
    except (KeyError, ValueError):
        return False
    return isinstance(event, dict) and event.get("source") == _SOURCE and event.get("type") not in _OF_REQUESTS


def pairs(reply: Any) -> list[tuple[str, list[tuple[str, Any]]]]:
    """Return streams with their entries from XREAD or XREADGROUP. RESP2 sends pairs, RESP3 a map of lists."""
    found: Iterable[Any] = reply.items() if isinstance(reply, dict) else reply or []
    return [(name, each[0] if each and isinstance(each[0], list) else each) for name, each in found]
