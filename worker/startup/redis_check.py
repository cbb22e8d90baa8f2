"""Checks whether Redis can be used: reachable, a primary of a supported version, and configured to keep its data."""

from collections.abc import Iterator, Mapping
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from worker.errors import BrokerUnavailable, UnusableServer
from worker.settings import Settings
from worker.startup import sentinel_check
from worker.startup.redis_permissions import require_permissions, require_writes
from worker.stores.key_types import MARKER_KEY, describe, wrong_keys
from worker.stores.redis_errors import VARIABLE, explain, is_lasting

OLDEST = (7, 0)
"""The first version in which XAUTOCLAIM reports trimmed entries and the script cache is neither stored nor
replicated."""
_CONNECT_SECONDS, _ANSWER_SECONDS = 2.0, 3.0
Info = Mapping[str, Any]


def check(settings: Settings, *, permissions: bool = False) -> list[str]:
    """Return warnings about settings that may lose data, one sentence each.

    `permissions`: whether the user must be allowed all that long-running processes do, and writes must be possible.
    Raises UnusableServer if waiting will not help, otherwise BrokerUnavailable.
    """
    warnings = sentinel_check.check(settings.redis) if settings.redis.sentinels else []
    with _client(settings) as client:
        try:
            hello = _hello(client)
            client.ping()
            if fault := fault_of(hello):
                raise UnusableServer(f"Redis at {settings.redis} cannot be used ({VARIABLE}): {fault}.")
            if hello.get("role") not in {"master", None}:
                text = f"is a replica, which refuses writes: {VARIABLE} should name the primary"
                raise BrokerUnavailable(f"Redis at {settings.redis} {text}.")
            if permissions:
                require_permissions(settings)
            _check_keys(client, settings)
            info = read_info(client)
            if is_full(info):
                text = f"is full ({info['used_memory']:,} of {info['maxmemory']:,} bytes), so it refuses writes"
                raise BrokerUnavailable(f"Redis at {settings.redis} {text} ({VARIABLE}): raise maxmemory.")
            if permissions:
                require_writes(settings)
            if settings.redis.sentinels:
                warnings += sentinel_check.risks(info)
            return [*warnings, *risks(info)]
        except redis.RedisError as error:
            text = explain(error)
            if "redis_url" not in settings.model_fields_set:
                text = text.replace(f"({VARIABLE})", f"({VARIABLE} is not set)")
            if (address := str(settings.redis)) not in text:
                tls = " (does it speak TLS at this port?)" if settings.redis.tls and "no answer" in text else ""
                named = "" if VARIABLE in text else f" ({VARIABLE})"
                text = f"{text.removesuffix('.')}{tls}; server {address}{named}."
            raise (UnusableServer if is_lasting(error) else BrokerUnavailable)(text) from error


def _check_keys(client: Any, settings: Settings) -> None:
    """Raise UnusableServer if this database seems to be another program's.

    Once this service has used it, workers move keys of the wrong type aside, because a mistaken producer wrote them.
    """
    wrong = wrong_keys(client, settings)
    if wrong and not client.exists(MARKER_KEY):
        faults = "; ".join(describe(key, *types) for key, types in wrong.items())
        advice = "select another database in the URL, or remove or rename the key"
        raise UnusableServer(f"Redis at {settings.redis} cannot be used ({VARIABLE}): {faults}. To continue, {advice}.")


def fault_of(hello: Info) -> str | None:
    """Return why a server with this reply to HELLO can never be used, or None."""
    if hello.get("mode") == "sentinel":
        return "it is a Sentinel: use sentinel:// with all Sentinels and the name of the primary that they watch"
    if hello.get("mode") == "cluster":
        return (
            "it is a member of a Redis Cluster, which Celery's transport does not support: use a primary with replicas "
            "and Sentinel (sentinel://), or a managed Redis with its cluster mode off"
        )
    version = str(hello.get("version", ""))
    if version and parse_version(version) < OLDEST:
        return f"Redis {version} is too old; upgrade to Redis 7.0 or newer, or to Valkey"
    return None


def is_full(info: Info) -> bool:
    """Return whether Redis has reached `maxmemory` and must not evict anything. False if `info` does not say."""
    limit = info.get("maxmemory") or 0
    return 0 < limit <= info.get("used_memory", 0) and info.get("maxmemory_policy") == "noeviction"


def parse_version(version: str) -> tuple[int, ...]:
    """Return the first two numbers of a version."""
    return tuple(int(part) for part in version.split(".")[:2])


def read_info(client: "redis.Redis") -> Info:
    """Return INFO with `appendonly` and `maxmemory_policy`, if this user may read them. Raises RedisError.

    Managed services refuse CONFIG but allow INFO, which has both. A user who may run neither gets an empty result.
    """
    info: dict[str, Any] = {}
    try:
        for section in ("server", "persistence", "memory", "replication"):
            found: Any = client.info(section)
            info |= found
    except redis.ResponseError:
        return info
    return info


def risks(info: Info) -> Iterator[str]:
    """Yield warnings about settings that may lose data. An empty `info` means that they could not be read."""
    if "aof_enabled" not in info or "maxmemory_policy" not in info:
        yield (
            "appendonly and maxmemory-policy could not be read (INFO is refused): make sure that they are yes and "
            "noeviction."
        )
        return
    if not info["aof_enabled"]:
        yield (
            "appendonly is no, so a restart of Redis loses the intake entries that no listener has read yet: "
            "run CONFIG SET appendonly yes."
        )
    if info.get("aof_last_write_status", "ok") != "ok":
        yield "Redis could not write its append-only file: check its log and the free space on its disk."
    if info["maxmemory_policy"] != "noeviction":
        yield (
            f"maxmemory-policy is {info['maxmemory_policy']}, so Redis deletes queues and events when memory runs out: "
            "run CONFIG SET maxmemory-policy noeviction."
        )


def _client(settings: Settings) -> "redis.Redis":
    return settings.redis.client(
        socket_timeout=_ANSWER_SECONDS,
        socket_connect_timeout=_CONNECT_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )


def _hello(client: Any) -> Info:
    """Return the server's version, mode and role, or an empty reply if this user may not read them."""
    try:
        reply: Any = client.execute_command("HELLO")
    except redis.ResponseError:
        client.ping()  # raises whatever else is wrong
        return {}
    pairs = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)
    return {_text(name): _text(value) for name, value in pairs}


def _text(value: Any) -> Any:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
