"""Finds out whether the ACL of the Redis user allows every command, key and channel that the system uses.

The commands are queued in a transaction that is discarded: Redis checks the ACL before it queues a command, and
executes none. `ACL DRYRUN` would say the same, but the users whose rights are in question must not call it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import redis

from worker.errors import UnusableServer
from worker.settings import Settings
from worker.stores.connections import broker_errors
from worker.stores.redis_errors import NO_PERMISSION, VARIABLE, forbidden, name_of

Command = tuple[str, ...]
_QUEUE, _STREAM, _HASH, _CLAIM = "snapshots", "snapshots:x", "unacked", "snapshots:claim:x"
_BINDING, _PIDBOX, _REPLY, _EVENTS = "_kombu.binding.x", "x.celery.pidbox", "x.reply.celery.pidbox", "celeryev.x"

KEYS = ("snapshots*", "unacked*", "_kombu.binding*", "*.celery.pidbox*", "celeryev.*")
"""Key patterns with the default names of streams: ours, and those of Celery and kombu."""
CHANNELS = (".celery.pidbox", ".celeryev/*")
"""Channel patterns of Celery's remote control and events, behind `/` and the database number."""

_IN_TRANSACTION: tuple[Command, ...] = (
    *(("GET", _CLAIM), ("MGET", _CLAIM, _STREAM), ("SET", _CLAIM, ""), ("DEL", _BINDING), ("UNLINK", _CLAIM)),
    ("RENAME", _QUEUE, _STREAM),
    *(("EXISTS", _BINDING), ("EXPIRE", _CLAIM, "1"), ("PEXPIRE", _REPLY, "1"), ("INCRBY", _CLAIM, "1")),
    *(("LLEN", _QUEUE), ("LINDEX", _QUEUE, "0"), ("LRANGE", _QUEUE, "0", "0"), ("LPUSH", _REPLY, "")),
    *(("SCAN", "0"), ("TYPE", _QUEUE), ("LREM", _QUEUE, "1", "x")),
    *(("RPUSH", _QUEUE, ""), ("RPOP", _QUEUE), ("BRPOP", _QUEUE, _PIDBOX, "1"), ("DEL", _EVENTS)),
    *(("HSET", _HASH, "x", ""), ("HGET", _HASH, "x"), ("HDEL", _HASH, "x"), ("HLEN", _HASH), ("HGETALL", _STREAM)),
    *(("HINCRBY", _STREAM, "x", "1"), ("HMGET", _STREAM, "x"), ("HKEYS", _HASH)),
    *(("SADD", _BINDING, "x"), ("SREM", _BINDING, "x"), ("SMEMBERS", _BINDING), ("SMISMEMBER", _STREAM, "x")),
    *(("ZADD", _HASH, "1", "x"), ("ZCARD", _HASH), ("ZREM", _HASH, "x"), ("ZRANGE", _HASH, "0", "0")),
    *(("ZRANGEBYSCORE", _HASH, "0", "0"), ("ZREVRANGEBYSCORE", _HASH, "0", "0")),
    *(("XADD", _STREAM, "*", "x", ""), ("XACK", _STREAM, "x", "0"), ("XDEL", _STREAM, "0"), ("XLEN", _STREAM)),
    *(("XRANGE", _STREAM, "-", "+"), ("XREVRANGE", _STREAM, "+", "-"), ("XTRIM", _STREAM, "MINID", "0")),
    *(("XREAD", "STREAMS", _STREAM, "0"), ("XREADGROUP", "GROUP", "x", "x", "STREAMS", _STREAM, "0")),
    *(("XAUTOCLAIM", _STREAM, "x", "x", "0", "0"), ("XCLAIM", _STREAM, "x", "x", "0", "0"), ("XPENDING", _STREAM, "x")),
    *(("XGROUP", "CREATE", _STREAM, "x", "0"), ("XGROUP", "DELCONSUMER", _STREAM, "x", "x")),
    *(("XGROUP", "SETID", _STREAM, "x", "0"), ("XINFO", "STREAM", _STREAM)),
    *(("XINFO", "GROUPS", _STREAM), ("XINFO", "CONSUMERS", _STREAM, "x")),
    *(("EVAL", "return 1", "0"), ("EVALSHA", "0" * 40, "0"), ("SCRIPT", "LOAD", "return 1"), ("SCRIPT", "EXISTS", "x")),
    *(("TIME",), ("PING",), ("WAITAOF", "1", "0", "1")),
)
_OUTSIDE: tuple[Command, ...] = (
    *(("CLIENT", "SETNAME", "training-snapshots-doctor"), ("CLIENT", "SETINFO", "LIB-NAME", "redis-py")),
    *(("SELECT", "{database}"), ("WATCH", _HASH), ("UNWATCH",)),
)
_TRANSACTION = ("MULTI", "EXEC", "DISCARD")
_CONNECTION = ("AUTH", "HELLO")
_PUBSUB = ("PUBLISH", "SUBSCRIBE", "PSUBSCRIBE", "UNSUBSCRIBE", "PUNSUBSCRIBE")
_OPTIONAL: tuple[Command, ...] = (("INFO",), ("CONFIG", "GET", "appendonly"))
"""Commands that only the doctor and the metrics of Redis's memory use. They are in the ACL category @dangerous."""
_CONTAINERS = frozenset({"XGROUP", "XINFO", "SCRIPT", "CLIENT", "CONFIG"})


@dataclass(frozen=True, slots=True)
class Refused:
    """The commands, keys and channels that the ACL refuses, in words."""

    needed: list[str]
    optional: list[str]
    """Those that only the doctor and the metrics use."""


def acl_rules(database: int = 0) -> list[str]:
    """Return the ACL rules that are exactly sufficient, for the default names of streams."""
    commands = {_rule(command) for command in (*_IN_TRANSACTION, *_OUTSIDE)}
    commands |= {f"+{name.lower()}" for name in (*_TRANSACTION, *_CONNECTION, *_PUBSUB)}
    optional = [_rule(command) for command in _OPTIONAL]
    channels = [f"&/{database}{pattern}" for pattern in CHANNELS]
    return [
        "resetkeys",
        "resetchannels",
        "-@all",
        *(f"~{key}" for key in KEYS),
        *channels,
        *sorted(commands),
        *optional,
    ]


def require_permissions(settings: Settings) -> None:
    """Check the rights that a long-running process needs. Raises UnusableServer, BrokerUnavailable."""
    refused = find_refused(settings)
    if refused.needed:
        raise UnusableServer(
            f"The ACL of the Redis user does not allow {', '.join(refused.needed)} ({VARIABLE}): give the user the "
            "rules in docs/operations.md, Redis user."
        )


def require_writes(settings: Settings) -> None:
    """Check that Redis accepts writes. Raises RedisError."""
    with _own_client(settings) as client:
        for command in (("MULTI",), ("SET", _CLAIM, ""), ("DISCARD",)):  # Redis refuses before it queues
            client.connection.send_command(*command)
            client.connection.read_response()


def find_refused(settings: Settings) -> Refused:
    """Return what the ACL refuses. Raises BrokerUnavailable."""
    with broker_errors(), _own_client(settings) as client:
        return Refused(
            list(dict.fromkeys(_refused(client, settings))),
            [name for command in _OPTIONAL if (name := _refused_by(client, command))],
        )


def _own_client(settings: Settings) -> Any:
    """Open a separate connection, so that no other command runs inside the transaction."""
    return settings.redis.client(
        protocol=2,  # replies to PSUBSCRIBE come in order
        single_connection_client=True,
        socket_timeout=5,
        socket_connect_timeout=3,
    )


def _refused(client: Any, settings: Settings) -> Iterator[str]:
    database = str(settings.redis.database)
    for command in _OUTSIDE:
        if name := _refused_by(client, tuple(part.replace("{database}", database) for part in command)):
            yield name
    streams = [settings.requests_stream, settings.rejected_stream, settings.events_stream]
    channels = [f"/{database}{pattern}" for pattern in CHANNELS]
    in_transaction: list[Command] = [
        *_IN_TRANSACTION,
        *(("XLEN", stream) for stream in streams),
        *(("PUBLISH", channel.replace("*", "x"), "") for channel in channels),
    ]
    if name := _refused_by(client, ("MULTI",)):
        yield name
        return
    for command in in_transaction:
        if name := _refused_by(client, command):
            yield name
    if name := _refused_by(client, ("DISCARD",)):
        yield name
    for channel in channels:
        if name := _refused_by(client, ("PSUBSCRIBE", channel)):
            yield name
    _refused_by(client, ("PUNSUBSCRIBE", *channels))


def _refused_by(client: Any, command: Command) -> str | None:
    """Send a command; return what the ACL refuses, or None. Other errors are ignored."""
    connection = client.connection
    connection.send_command(*command)
    try:
        for _ in range(max(1, len(command) - 1) if command[0] == "PUNSUBSCRIBE" else 1):
            connection.read_response()
    except redis.ResponseError as error:
        if name_of(error) != NO_PERMISSION:
            return None
        text = forbidden(error)
        if text.startswith("the command"):
            return text
        return f"{text} by {command[0]} {command[-1] if command[0] in _PUBSUB else command[1]}"
    return None


def _rule(command: Sequence[str]) -> str:
    name = f"{command[0]}|{command[1]}" if command[0] in _CONTAINERS else command[0]
    return f"+{name.lower()}"
