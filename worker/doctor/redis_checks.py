"""Redis: version, role, durability, memory."""

from collections.abc import Iterator, Mapping
from typing import Any

import redis

from worker.doctor.findings import Finding, failure, ok, warning
from worker.stores.connections import Connections, broker_errors

_OLDEST, _KNOWS_LOST = (6, 2), (7, 0)
_DEAR, _FULL = 0.8, 0.95
_WANTED = ("appendonly", "appendfsync", "maxmemory-policy")


def check(connections: Connections) -> Iterator[Finding]:
    """Raises BrokerUnavailable."""
    client: Any = connections.redis
    with broker_errors():
        info = client.info()
        try:
            config = {name: value for wanted in _WANTED for name, value in client.config_get(wanted).items()}
        except redis.ResponseError:
            config = {}
    yield _version(info)
    if info["role"] != "master":
        yield failure("This Redis is a replica.", "Name the primary in SNAPSHOTS_REDIS_URL.")
    yield from _durability(config, info)
    yield from _memory(info)


def _version(info: Mapping[str, Any]) -> Finding:
    version = tuple(int(each) for each in str(info["redis_version"]).split(".")[:2])
    own = f"Valkey {info['valkey_version']}" if info.get("valkey_version") else f"Redis {info['redis_version']}"
    if version < _OLDEST:
        return failure(f"{own} is too old: it has no XAUTOCLAIM.", "Use Redis 7.2 or newer, or Valkey.")
    if version < _KNOWS_LOST:
        return warning(f"{own} does not tell which intake entries were trimmed.", "Use Redis 7.2 or newer, or Valkey.")
    return ok(own)


def _durability(config: Mapping[str, str], info: Mapping[str, Any]) -> Iterator[Finding]:
    if not config:
        yield warning(
            "CONFIG GET is not allowed: durability cannot be checked.",
            "See to it that appendonly is yes, appendfsync everysec or always, maxmemory-policy noeviction.",
        )
        return
    if config["appendonly"] != "yes":
        yield failure(
            "appendonly is off: a restart loses the intake entries that no listener has read yet.",
            "CONFIG SET appendonly yes, and `appendonly yes` in redis.conf.",
        )
    elif config["appendfsync"] == "no":
        yield failure(
            "appendfsync is no: a crash of the machine loses up to half a minute of intake entries.",
            "CONFIG SET appendfsync everysec, and in redis.conf.",
        )
    else:
        yield ok(f"append-only file, fsync {config['appendfsync']}")
    if info.get("aof_last_write_status", "ok") != "ok":
        yield failure("The append-only file could not be written.", "Look at Redis's log and the disk's free space.")
    policy = config["maxmemory-policy"]
    if policy != "noeviction":
        yield failure(
            f"maxmemory-policy is {policy}: under pressure Redis throws queues and events away.",
            "CONFIG SET maxmemory-policy noeviction, and in redis.conf.",
        )
    else:
        yield ok("evicts nothing")


def _memory(info: Mapping[str, Any]) -> Iterator[Finding]:
    used, limit = info["used_memory"], info.get("maxmemory") or 0
    if not limit:
        yield ok(f"{_mb(used)} of memory in use, no maxmemory")
        return
    said = f"{_mb(used)} of {_mb(limit)} memory in use"
    advice = "Raise maxmemory; look at `snapshots status` for what waits; shorten SNAPSHOTS_EVENTS_RETENTION."
    share = used / limit
    if share > _FULL:
        yield failure(f"{said}: soon Redis takes nothing anymore.", advice)
    elif share > _DEAR:
        yield warning(f"{said}.", advice)
    else:
        yield ok(said)


def _mb(size: int) -> str:
    return f"{size / 1024 / 1024:,.0f} MB"
