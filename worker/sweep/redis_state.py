"""Reads the state that earlier sweeps stored in Redis, by which a sweep recognizes that Redis has lost data.

- The marker, a random key that MongoDB knows too. If it is gone or different, Redis lost everything.
- The pulse, the time of the last complete sweep, written after all events that were emitted before it. If it lies
  behind MongoDB's, Redis came back with an older state: from a backup, a replica that lagged, or an append-only file
  that was truncated where it was damaged.
- A script in the script cache, which lives exactly as long as the server process: Redis 7 and Valkey neither persist
  nor replicate it (https://redis.io/docs/latest/develop/programmability/eval-intro/#script-cache). If it is gone,
  another process answers, and the last second before a crash may be lost. `INFO`, which shows a `run_id`, would say
  the same, but is in the ACL category @dangerous.
"""

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from typing import cast
from uuid import uuid4

import redis

from worker.clock import from_milliseconds, milliseconds
from worker.stores.key_types import MARKER_KEY

PULSE_KEY = "snapshots:pulse"
"""Key with the time of the last complete sweep, in ms by MongoDB's clock."""
_MILLISECONDS = re.compile(rb"\d{1,13}")
"""A longer number would be a date after the year 2286, so it was not written by a sweep."""


@dataclass(frozen=True, slots=True)
class RedisState:
    """The state of one Redis server. `pulse` is None if it is missing or unreadable."""

    marker: str | None
    pulse: datetime | None
    same_process: bool


def read_state(client: "redis.Redis", instance: str | None) -> RedisState:
    """Read the state. `instance`: the digest of the script that identifies the known process. Raises RedisError."""
    marker, pulse = cast("list[bytes | None]", client.mget(MARKER_KEY, PULSE_KEY))
    return RedisState(
        marker.decode(errors="replace") if marker else None,
        from_milliseconds(int(pulse)) if pulse and _MILLISECONDS.fullmatch(pulse) else None,
        instance is not None and bool(client.script_exists(instance)[0]),
    )


def write_pulse(client: "redis.Redis", now: datetime) -> None:
    """Record that a sweep was complete at `now`, by MongoDB's clock. Raises RedisError.

    The time is stored in milliseconds since 1970. A Redis that comes back with an older one has lost data.
    """
    client.set(PULSE_KEY, milliseconds(now))


class NewInstance:
    """Marks a server process with a unique script. `digest` is known before the script is loaded."""

    def __init__(self) -> None:
        self._script = f"return '{uuid4().hex}'"
        self.digest = hashlib.sha1(self._script.encode(), usedforsecurity=False).hexdigest()

    def load(self, client: "redis.Redis") -> None:
        """Load the script into the process behind this connection. Raises RedisError."""
        client.script_load(self._script)
