"""Redis with replicas and Sentinels: which server was the primary until when, and what a failover can have lost.

A thread asks the Sentinels for the primary, and every server for its role and the last id of the intake stream, many
times a second. A failover loses at most what the former primary had beyond the last id that the promoted replica had
while it was one, and what it accepted until it became a replica itself.
"""

import contextlib
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from chaos.intake_losses import NONE, EntryId, Loss, entry_id
from chaos.witness import STREAM, Witness
from support.sentinels import Sentinels

_LOOK_SECONDS = 0.05
_ANSWER_SECONDS = 0.2


@dataclass(frozen=True)
class FailoverLoss(Loss):
    """A failover. What the witness has read from the new primary is not lost."""

    present: frozenset[EntryId] = frozenset()

    def covers(self, entry: EntryId) -> bool:
        return super().covers(entry) and entry not in self.present


@dataclass
class Failover:
    """A failover as it was observed."""

    former: int
    """The port of the former primary."""
    kept: EntryId
    """The last id of the stream on the promoted replica, when it was last seen as one."""
    ended: float | None = None
    """When the former primary was seen as a replica, in seconds since 1970. Until then it may accept entries."""


@dataclass
class Roles:
    """One thread. `primary` is the port of the server that the Sentinels name and that says it is the primary."""

    servers: Sentinels
    primary: int
    failovers: list[Failover] = field(default_factory=list)
    _kept: dict[int, EntryId] = field(default_factory=dict)
    """The last id of the stream on each server when it was last seen as a replica."""
    _clients: dict[int, Any] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        self._thread = threading.Thread(target=self._watch, daemon=True, name="roles")
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(10)

    def _watch(self) -> None:
        while not self._stop.wait(_LOOK_SECONDS):
            self._look()

    def _look(self) -> None:
        roles = {port: self._role(port) for port in self.servers.ports}
        named = self._named()
        if named is not None and named != self.primary and roles.get(named) == "master":
            self.failovers.append(Failover(self.primary, self._kept.get(named, NONE)))
            self.primary = named
        for failover in self.failovers:
            if failover.ended is None and roles[failover.former] == "slave":
                failover.ended = time.time()

    def _role(self, port: int) -> str | None:
        try:
            with self._client(port).pipeline(transaction=True) as pipeline:
                pipeline.execute_command("ROLE")
                pipeline.xinfo_stream(STREAM)
                role, stream = pipeline.execute(raise_on_error=False)
        except redis.RedisError:
            return None
        if isinstance(role, Exception):
            return None
        name = str(role[0].decode())
        if name == "slave":
            last = NONE if isinstance(stream, Exception) else entry_id(stream["last-generated-id"].decode())
            self._kept[port] = last
        return name

    def _named(self) -> int | None:
        for port in self.servers.sentinel_ports:
            with contextlib.suppress(redis.RedisError):
                found: Any = self._client(port).execute_command(
                    "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.servers.name
                )
                return int(found[1])
        return None

    def _client(self, port: int) -> Any:
        if port not in self._clients:
            timeouts: Any = {"socket_timeout": _ANSWER_SECONDS, "socket_connect_timeout": _ANSWER_SECONDS}
            once = Retry(NoBackoff(), 0)
            self._clients[port] = redis.Redis(self.servers.address(port), port, retry=once, **timeouts)
        return self._clients[port]


class FollowingWitness(Witness):
    """A witness that reads from whichever server is the primary."""

    def __init__(self, roles: Roles) -> None:
        super().__init__(roles.primary, Path())
        self._roles = roles
        self._losses: list[tuple[Failover, FailoverLoss, set[EntryId]]] = []

    def start(self) -> None:
        self._roles.start()
        super().start()

    def close(self) -> None:
        super().close()
        self._roles.close()

    def losses(self) -> list[Loss]:
        """Flushes and failovers."""
        found: list[Loss] = list(self._flushes)
        for failover, loss, present in self._losses:
            ended = failover.ended or time.time()
            at = int(ended * 1000)
            own = frozenset(present.copy())
            found.append(FailoverLoss(at, loss.kept, loss.acknowledged, loss.read_at, ended, present=own))
        return sorted(found, key=lambda loss: loss.at)

    def _is_current(self) -> bool:
        return self._port == self._roles.primary

    def _client(self) -> "redis.Redis":
        if threading.current_thread() is self._thread:
            for failover in self._roles.failovers[len(self._losses) :]:
                loss = FailoverLoss(0, failover.kept, self._acknowledged[-1][1], self._read_at, 0.0)
                self._losses.append((failover, loss, set()))
                self._last = f"{failover.kept[0]}-{failover.kept[1]}"
            self._port = self._roles.primary
        address = self._roles.servers.address(self._roles.primary)
        return redis.Redis(address, self._roles.primary, socket_timeout=2, retry=Retry(NoBackoff(), 0))

    def _note(self, key: str, fields: dict[bytes, bytes]) -> None:
        for *_, present in self._losses:
            present.add(entry_id(key))
        super()._note(key, fields)
