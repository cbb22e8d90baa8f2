"""What the Python client does, without doing it: generators that give Redis commands and take the replies.

The sync and the asyncio client run the same steps (https://sans-io.readthedocs.io), so there is one of each rule.
"""

import random
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import redis
from pydantic import ValidationError

from worker.client.models import EVENT, Event
from worker.stores.redis_errors import name_of

Result = TypeVar("Result")

UNREACHABLE = (redis.ConnectionError, redis.TimeoutError)
BLOCK_SECONDS = 2.0
"""One blocking read; below the socket's timeout."""

Command = tuple[str, tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Do:
    """Run these commands in one pipeline; answered with the list of replies, or the error thrown in."""

    commands: Sequence[Command]


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait for so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Give:
    """An event for the loop's body; answered once the body took it."""

    event: Event


@dataclass(frozen=True, slots=True)
class Names:
    """The streams; the server's settings have other names if these are changed there."""

    requests: str = "snapshots:requests"
    rejected: str = "snapshots:rejected"
    events: str = "snapshots:events"


Steps = Generator[Do | Pause, Any, Result]


class Running(Generic[Result]):
    """Steps on their way: `step` is what is to be done now, until they are `done`."""

    def __init__(self, steps: Generator[Do | Pause | Give, Any, Result] | Steps[Result]) -> None:
        self._steps: Generator[Any, Any, Result] = steps
        self.done = False
        self.result: Any = None
        self.step: Any = None
        self.answer(None)

    def answer(self, reply: Any) -> None:
        """What the step gave. Raises what the steps raise."""
        try:
            self.step = self._steps.send(reply)
        except StopIteration as end:
            self.done, self.result = True, end.value

    def fail(self, error: Exception) -> None:
        """What the step raised. Raises what the steps make of it."""
        try:
            self.step = self._steps.throw(error)
        except StopIteration as end:
            self.done, self.result = True, end.value


def command(name: str, *args: Any, **kwargs: Any) -> Command:
    """One command by the name of its method in redis-py."""
    return name, args, kwargs


def pause(attempt: int) -> Pause:
    """After the first failed attempt, the second, ... up to 2 s."""
    return Pause(min(2.0, 0.1 * 2.0 ** min(attempt, 10)) * random.uniform(0.5, 1.0))


def checked(replies: list[Any]) -> list[Any]:
    """Raises the first that is an error, in Redis's own words: redis-py puts some of its own before a pipeline's."""
    for each in replies:
        if isinstance(each, redis.RedisError):
            raise each
    return replies


def refusal(error: redis.RedisError) -> str:
    return f"Redis refuses ({name_of(error)})."


def read_event(fields: Mapping[str, str]) -> Event | None:
    """None where an entry is no event of ours."""
    try:
        return EVENT.validate_json(fields["event"])
    except (KeyError, ValidationError):
        return None


def pairs(reply: Any) -> list[tuple[str, list[tuple[str, Any]]]]:
    """Streams with their entries, of an XREAD or XREADGROUP: RESP2 gives pairs, RESP3 a map of lists."""
    found: Iterable[Any] = reply.items() if isinstance(reply, dict) else reply or []
    return [(name, each[0] if each and isinstance(each[0], list) else each) for name, each in found]
