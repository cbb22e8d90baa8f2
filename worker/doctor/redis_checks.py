"""Checks Redis's version, role, durability and memory."""

from collections.abc import Iterator, Mapping
from typing import Any

import redis

from worker.doctor.findings import Finding, failure, ok, warning
from worker.errors import UnusableServer
from worker.redis_address.address import RedisAddress
from worker.settings import Settings
from worker.startup import redis_check, sentinel_check
from worker.startup.redis_permissions import find_refused
from worker.stores.connections import Connections, broker_errors
from worker.stores.key_types import MOVED, describe, moved_keys, shown, wrong_keys
from worker.stores.redis_errors import NO_PERMISSION

_WARNING_SHARE, _FAILURE_SHARE = 0.8, 0.95
_PARAMETERS = ("appendonly", "appendfsync", "maxmemory-policy")


def check(connections: Connections) -> Iterator[Finding]:
    """Check Redis's permissions, version, persistence and memory. Raises UnusableServer, BrokerUnavailable."""
    _require(connections.settings)
    if weakness := connections.settings.redis.weakness:
        yield warning(
            f"TLS does not prove the identity of the Redis server: {weakness}.", "Use ssl_ca_certs=FILE instead."
        )
    yield from check_permissions(connections.settings)
    yield from _keys(connections)
    client: Any = connections.redis
    with broker_errors():
        try:
            info = client.info()
        except redis.exceptions.NoPermissionError:
            return  # reported above; without it, version, role, durability and memory are unknown
        try:
            config = {name: value for parameter in _PARAMETERS for name, value in client.config_get(parameter).items()}
        except redis.ResponseError:
            config = {}
    yield _version(info)
    yield from _durability(config, info)
    if connections.settings.redis.sentinels:
        yield from _sentinels(connections.settings.redis, info)
    yield from _memory(info)


def check_permissions(settings: Settings) -> Iterator[Finding]:
    """Name each command, key and channel that the ACL refuses. Raises BrokerUnavailable."""
    advice = "Give the Redis user the rules in docs/operations.md, Redis user."
    refused = find_refused(settings)
    if refused.needed:
        yield failure(f"The ACL of the Redis user does not allow {', '.join(refused.needed)}.", advice)
    else:
        yield ok("the ACL allows every command, key and channel")
    for name in refused.optional:
        yield warning(f"The ACL of the Redis user does not allow {name}, so not everything can be checked.", advice)


def _require(settings: Settings) -> None:
    """Raise UnusableServer or BrokerUnavailable if Redis cannot be used.

    Missing permissions are reported later, all at once.
    """
    try:
        redis_check.check(settings)
    except UnusableServer as error:
        if NO_PERMISSION not in error.message:
            raise


def _keys(connections: Connections) -> Iterator[Finding]:
    """Report keys of the wrong type, and those that workers have moved aside."""
    with broker_errors():
        wrong = wrong_keys(connections.redis, connections.settings)
        moved = sorted(moved_keys(connections.redis))
    for key, types in wrong.items():
        yield failure(
            f"Redis commands fail, because {describe(key, *types)}.",
            f"Remove or rename the key (RENAME {shown(key)} NAME). Running workers do so within a second, unless their "
            "log says `misplaced_key_not_moved`.",
        )
    if moved:
        yield warning(
            f"Workers have moved Redis keys aside ({len(moved)} so far), because of a wrong type or ids far in the "
            f"future. The latest is {shown(moved[-1])}.",
            f"Find the program that wrote these keys, then remove them with UNLINK. Their names begin with {MOVED}, "
            "followed by the time in ms.",
        )


def _sentinels(address: RedisAddress, info: Mapping[str, Any]) -> Iterator[Finding]:
    found = [*sentinel_check.check(address), *sentinel_check.risks(info)]
    for risk in found:
        yield warning(risk, "See docs/scaling.md, Redis with Sentinel.")
    if not found:
        yield ok(f"the Sentinels can fail over {address.sentinels.name if address.sentinels else ''}")


def _version(info: Mapping[str, Any]) -> Finding:
    return ok(f"Valkey {info['valkey_version']}" if info.get("valkey_version") else f"Redis {info['redis_version']}")


def _durability(config: Mapping[str, str], info: Mapping[str, Any]) -> Iterator[Finding]:
    if not config:
        yield warning(
            "CONFIG GET is not allowed, so appendfsync could not be read.",
            "Make sure that appendfsync is everysec or always.",
        )
        config = {
            "appendonly": "yes" if info["aof_enabled"] else "no",
            "appendfsync": "unknown",
            "maxmemory-policy": info["maxmemory_policy"],
        }
    if config["appendonly"] != "yes":
        yield failure(
            "appendonly is off, so a restart loses the intake entries that no listener has read yet.",
            "Run CONFIG SET appendonly yes, and set it in redis.conf.",
        )
    elif config["appendfsync"] == "no":
        yield failure(
            "appendfsync is no, so a crash of the machine loses up to half a minute of intake entries.",
            "Run CONFIG SET appendfsync everysec, and set it in redis.conf.",
        )
    else:
        yield ok(f"append-only file, fsync {config['appendfsync']}")
    if info.get("aof_last_write_status", "ok") != "ok":
        yield failure("Redis could not write its append-only file.", "Check Redis's log and the free disk space.")
    policy = config["maxmemory-policy"]
    if policy != "noeviction":
        yield failure(
            f"maxmemory-policy is {policy}, so Redis deletes queues and events when memory runs out.",
            "Run CONFIG SET maxmemory-policy noeviction, and set it in redis.conf.",
        )
    else:
        yield ok("no eviction")


def _memory(info: Mapping[str, Any]) -> Iterator[Finding]:
    used, limit = info["used_memory"], info.get("maxmemory") or 0
    if not limit:
        yield ok(f"{_mb(used)} of memory in use, no maxmemory")
        return
    usage = f"{_mb(used)} of {_mb(limit)} memory in use"
    advice = "Raise maxmemory, or shorten SNAPSHOTS_EVENTS_RETENTION. `snapshots status` shows what is waiting."
    share = used / limit
    if share > _FAILURE_SHARE:
        yield failure(f"{usage}. Redis will soon refuse writes.", advice)
    elif share > _WARNING_SHARE:
        yield warning(f"{usage}.", advice)
    else:
        yield ok(usage)


def _mb(size: int) -> str:
    return f"{size / 1024 / 1024:,.0f} MB"
