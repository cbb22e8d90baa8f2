"""Faults of Redis: it dies, loses data, refuses writes, or cannot be reached."""

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

from chaos.context import Context
from chaos.servers import REDIS
from chaos.system import send_signal

_BACK_SECONDS = 40.0
_DISTURBED_SECONDS = 6.0
_FLUSH_WAIT_SECONDS = 30.0
_MOST_UNSETTLED = 3
"""A flush waits a while until at most so many intake entries are unsettled. It loses them, and those without a request
id are not promised: a flush during a backlog would excuse most of what a short run sends."""
_MOST_TWICE = 5000
"""Messages of a queue that are delivered again at once: a backlog that is doubled repeatedly never ends."""


def restart_redis(context: Context) -> str:
    """SIGTERM: Redis saves what it has."""
    return _end(context, signal.SIGTERM)


def kill_redis(context: Context) -> str:
    """SIGKILL: what Redis wrote to its AOF is kept."""
    return _end(context, signal.SIGKILL)


def cut_power_of_redis(context: Context) -> str:
    """As if the machine lost power: what was not synced yet, about the last second, is missing in the AOF."""
    file = _append_only_file(context)
    size = file.stat().st_size
    context.pause(1.0)
    pid = _send(context, signal.SIGKILL)
    lost = file.stat().st_size - size if file.exists() else 0
    if lost > 0:
        os.truncate(file, size)
    _wait_until_back(context, pid)
    return f"{max(0, lost)} bytes lost"


def flush(context: Context) -> str:
    """FLUSHALL: queues, streams, groups, marker."""
    deadline = time.monotonic() + _FLUSH_WAIT_SECONDS
    unsettled = 0
    while time.monotonic() < deadline:
        with contextlib.suppress(redis.RedisError):
            unsettled = context.witness.unsettled()
            if unsettled <= _MOST_UNSETTLED:
                break
        context.pause(0.2)
    context.witness.flush()
    context.strike()
    return f"FLUSHALL, about {unsettled} intake entries unsettled"


def fill_memory(context: Context) -> str:
    """Out of memory under `noeviction`: reads go on, writes are refused."""
    with context.servers.redis() as broker:
        broker.config_set("maxmemory", "100kb")
        try:
            context.pause(_DISTURBED_SECONDS)
        finally:
            broker.config_set("maxmemory", "0")
    return f"{_DISTURBED_SECONDS:g} s"


def fill_disk(context: Context) -> str:
    """The AOF cannot grow, because the process may not write larger files (setrlimit(2)).

    Python ignores SIGXFSZ and its children inherit that, so the write fails as on a full disk. Redis answers MISCONF.
    """
    if not hasattr(resource, "prlimit"):
        raise LookupError("needs prlimit")
    pid, size = context.servers.valkey.pid, _append_only_file(context).stat().st_size
    status = "unknown"
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size + 100, hard))
    try:
        context.pause(_DISTURBED_SECONDS)
        with context.servers.redis() as broker, contextlib.suppress(redis.ConnectionError):
            status = broker.info("persistence")["aof_last_write_status"]
    finally:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))
    if status == "ok":
        raise LookupError("Redis had another file to write to")
    return f"{_DISTURBED_SECONDS:g} s, AOF status {status}"


def slow_redis(context: Context) -> str:
    """Delays by 150 ms each way."""
    with context.servers.links({"source": "*", "target": REDIS, "delay": 0.15}):
        context.pause(_DISTURBED_SECONDS)
    return "300 ms a round trip"


def hold_redis(context: Context) -> str:
    """Holds all traffic: connections stay, and what was sent arrives late."""
    with context.servers.links({"source": "*", "target": REDIS, "hold": True}):
        context.pause(_DISTURBED_SECONDS)
    return f"{_DISTURBED_SECONDS:g} s"


def cut_redis(context: Context) -> str:
    """Ends all connections, three times."""
    for _ in range(3):
        context.servers.cut(REDIS)
        context.pause(0.3)
    return "3 times"


def deliver_twice(context: Context) -> str:
    """Delivers again every message that waits or runs, and every entry that is still in the intake stream."""
    with context.servers.redis() as broker, _stopped(context):
        context.pause(2.0)
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
        raise LookupError("there was nothing to deliver again")
    return f"{again} messages, {entries} entries"


@contextlib.contextmanager
def _stopped(context: Context) -> Iterator[None]:
    """Stops the workers within the block, so that messages wait."""
    workers = [child for child in context.system.named("worker") if child.running]
    pids = [pid for child in workers for pid in (child.pid, *context.system.pool_of(child))]
    for pid in pids:
        send_signal(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            send_signal(pid, signal.SIGCONT)


def _append_only_file(context: Context) -> Path:
    files = sorted((context.servers.folder / "valkey" / "appendonlydir").glob("*.incr.aof"))
    return files[-1]


def _end(context: Context, number: signal.Signals) -> str:
    _wait_until_back(context, _send(context, number))
    return number.name


def _send(context: Context, number: signal.Signals) -> int:
    """Sends Redis a signal and returns its process id. Raises LookupError if it is not running."""
    valkey = context.servers.valkey
    pid = valkey.pid
    if not (valkey.running and send_signal(pid, number)):
        raise LookupError("Redis was not running")
    context.strike(kills=number == signal.SIGKILL)
    return pid


def _wait_until_back(context: Context, pid: int) -> None:
    valkey = context.servers.valkey
    deadline = time.monotonic() + _BACK_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(redis.RedisError), context.servers.redis() as broker:
            if valkey.pid != pid and broker.ping():
                return
        context.pause(0.05)
    raise TimeoutError("Redis did not come back")
