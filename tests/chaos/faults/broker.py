"""Redis that dies, forgets, refuses, or cannot be reached."""

import contextlib
import json
import os
import resource
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import redis

from chaos.context import Arena
from chaos.servers import REDIS
from chaos.system import send_signal

LOSSY = frozenset({"kill_redis", "cut_power_of_redis", "flush"})
"""Faults after which Redis has not all that it had answered for."""
_BACK_SECONDS = 40.0
_DISTURBED_SECONDS = 6.0
_MOST_TWICE = 5000
"""Messages of a queue that are delivered again at once: a backlog that is doubled time and again never ends."""


def restart_redis(arena: Arena) -> str:
    """SIGTERM: it saves what it has."""
    return _end(arena, signal.SIGTERM)


def kill_redis(arena: Arena) -> str:
    """SIGKILL: what it wrote to its AOF is there."""
    return _end(arena, signal.SIGKILL)


def cut_power_of_redis(arena: Arena) -> str:
    """As when the machine loses power: what was not synced yet, about the last second, is missing in the AOF."""
    file = _append_only_file(arena)
    size = file.stat().st_size
    arena.pause(1.0)
    pid = arena.servers.valkey.pid
    send_signal(pid, signal.SIGKILL)
    arena.strike(kills=1)
    lost = file.stat().st_size - size if file.exists() else 0
    if lost > 0:
        os.truncate(file, size)
    _wait_until_back(arena, pid)
    return f"{max(0, lost)} bytes lost"


def flush(arena: Arena) -> str:
    """FLUSHALL: queues, streams, groups, marker."""
    with arena.servers.redis() as broker:
        broker.flushall()
    return "FLUSHALL"


def fill_memory(arena: Arena) -> str:
    """Out of memory under noeviction: reads go on, writes are refused."""
    with arena.servers.redis() as broker:
        broker.config_set("maxmemory", "100kb")
        try:
            arena.pause(_DISTURBED_SECONDS)
        finally:
            broker.config_set("maxmemory", "0")
    return f"{_DISTURBED_SECONDS:g} s"


def fill_disk(arena: Arena) -> str:
    """The AOF cannot grow: its process may write no larger files. Python ignores SIGXFSZ, and its children inherit it,
    so the write fails as on a full disk (setrlimit(2)), and Redis answers MISCONF."""
    if not hasattr(resource, "prlimit"):
        raise LookupError("needs prlimit")
    pid, size = arena.servers.valkey.pid, _append_only_file(arena).stat().st_size
    said = "unknown"
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size + 100, hard))
    try:
        arena.pause(_DISTURBED_SECONDS)
        with arena.servers.redis() as broker, contextlib.suppress(redis.ConnectionError):
            said = broker.info("persistence")["aof_last_write_status"]
    finally:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))
    return f"{_DISTURBED_SECONDS:g} s, AOF status {said}"


def slow_redis(arena: Arena) -> str:
    """150 ms each way."""
    with arena.servers.links({"source": "*", "target": REDIS, "delay": 0.15}):
        arena.pause(_DISTURBED_SECONDS)
    return "300 ms a round trip"


def hold_redis(arena: Arena) -> str:
    """Nothing gets through; connections stay, and what was sent arrives late."""
    with arena.servers.links({"source": "*", "target": REDIS, "hold": True}):
        arena.pause(_DISTURBED_SECONDS)
    return f"{_DISTURBED_SECONDS:g} s"


def cut_redis(arena: Arena) -> str:
    """All connections end, a few times."""
    for _ in range(3):
        arena.servers.cut(REDIS)
        arena.pause(0.3)
    return "3 times"


def deliver_twice(arena: Arena) -> str:
    """Every message that waits or runs, and every entry that is still in the intake stream, is delivered again."""
    with arena.servers.redis() as broker, _stopped(arena):
        arena.pause(2.0)
        again = 0
        running: list[Any] = broker.hvals("unacked")
        for message, _, queue in (json.loads(each) for each in running):
            broker.lpush(queue, json.dumps(message))
            again += 1
        for queue in ("snapshots", "snapshots.bulk", "snapshots.maintenance"):
            waiting: list[bytes] = broker.lrange(queue, -_MOST_TWICE, -1)  # type: ignore[assignment]
            again += len(waiting)
            if waiting:
                broker.lpush(queue, *reversed(waiting))
        entries = 0
        with contextlib.suppress(redis.ResponseError):
            entries = int(broker.xlen("snapshots:requests"))
            broker.xgroup_setid("snapshots:requests", "snapshots", "0")
    if not again and not entries:
        raise LookupError("nothing was there to be delivered again")
    return f"{again} messages, {entries} entries"


@contextlib.contextmanager
def _stopped(arena: Arena) -> Iterator[None]:
    """Workers do not take messages meanwhile, so that some wait."""
    workers = [child for child in arena.system.named("worker") if child.running]
    pids = [pid for child in workers for pid in (child.pid, *arena.system.pool_of(child))]
    for pid in pids:
        send_signal(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            send_signal(pid, signal.SIGCONT)


def _append_only_file(arena: Arena) -> Path:
    files = sorted((arena.servers.folder / "valkey" / "appendonlydir").glob("*.incr.aof"))
    return files[-1]


def _end(arena: Arena, number: signal.Signals) -> str:
    pid = arena.servers.valkey.pid
    send_signal(pid, number)
    arena.strike(kills=number == signal.SIGKILL)
    _wait_until_back(arena, pid)
    return number.name


def _wait_until_back(arena: Arena, pid: int) -> None:
    valkey = arena.servers.valkey
    deadline = time.monotonic() + _BACK_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(redis.RedisError), arena.servers.redis() as broker:
            if valkey.pid != pid and broker.ping():
                return
        arena.pause(0.05)
    raise TimeoutError("Redis did not come back")
