"""Finds keys of Redis that have a value of the wrong type, and moves such a value out of the way.

A mistaken producer may write a text where Celery has a list (`SET snapshots x`), or a list where this service has a
stream (`LPUSH snapshots:requests ...`). Redis then refuses every command for that key, and because a worker waits for
all of its queues in one command, one such key would stop the requests of everyone. Workers therefore rename it. Its
value is kept as long as rejected entries are.
"""

from collections.abc import Iterator
from typing import Any

import redis

from worker.log import get_logger
from worker.settings import Settings
from worker.stores.redis_errors import name_of
from worker.stores.run_records import RUNS_KEY
from worker.stores.wakeups import QUEUES

log = get_logger(__name__)

MARKER_KEY = "snapshots:marker"
"""The key of `worker.sweep.redis_state`. A database that has it was used by this service."""
MOVED = "snapshots:misplaced:"
"""The beginning of the names of moved keys. It is followed by Redis's time in ms and the former name."""
PRIORITY_STEPS, SEPARATOR = (0, 3, 6, 9), "\x06\x16"
"""kombu reads a list for each of these priorities of a queue, and appends a priority that is not 0 to the name."""
_EXCHANGES = (*QUEUES, "celeryev", "celery.pidbox", "reply.celery.pidbox")
_ABSENT = "none"

# KEYS: key, its new name. ARGV: type, lifetime in ms. Returns the wrong type, or nothing if there is none any more.
_MOVE = """
local kind = redis.call('TYPE', KEYS[1])['ok']
if kind == 'none' or kind == ARGV[1] then return false end
redis.call('RENAME', KEYS[1], KEYS[2])
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return kind
"""


def key_types(settings: Settings) -> dict[str, str]:
    """Return the type of each key that this service, Celery and kombu use.

    Keys that are only written with SET are left out, because it replaces a value of any type. So are the claims, which
    the sweep removes.
    """
    streams = (settings.requests_stream, settings.rejected_stream, settings.events_stream)
    return {
        **{f"{queue}{SEPARATOR}{step}" if step else queue: "list" for queue in QUEUES for step in PRIORITY_STEPS},
        **dict.fromkeys(streams, "stream"),
        **dict.fromkeys(("unacked", RUNS_KEY, f"{settings.requests_stream}:starts"), "hash"),
        **dict.fromkeys(("unacked_index", "_kombu.binding_deadlines"), "zset"),
        **{f"_kombu.{table}.{name}": "set" for table in ("binding", "binding_permanent") for name in _EXCHANGES},
        f"{settings.requests_stream}:held": "set",
    }


def wrong_keys(client: Any, settings: Settings) -> dict[str, tuple[str, str]]:
    """Return the type and the right type of each key of the wrong type, by name. Raises redis-py's errors."""
    types = key_types(settings)
    with client.pipeline(transaction=False) as pipeline:
        for key in types:
            pipeline.type(key)
        found = [kind.decode() for kind in pipeline.execute()]
    pairs = zip(types.items(), found, strict=True)
    return {key: (kind, right) for (key, right), kind in pairs if kind not in (right, _ABSENT)}


def move_wrong_keys(client: Any, settings: Settings) -> None:
    """Rename keys of the wrong type, and log it. If Redis refuses, log that. Raises redis-py's connection errors."""
    lifetime = round(settings.events_retention.total_seconds() * 1000)
    try:
        for key, (_, right) in wrong_keys(client, settings).items():
            if key == settings.events_stream:  # its events are gone, so the next sweep has to emit them again
                client.delete(MARKER_KEY)
            target = moved_name(client, key)
            if kind := client.eval(_MOVE, 2, key, target, right, lifetime):
                log.error("misplaced_key_moved", key=key, type=kind.decode(), should_be=right, moved_to=target)
    except redis.ResponseError as error:
        log.error("misplaced_key_not_moved", reason=name_of(error))


def moved_name(client: Any, key: str) -> str:
    """Return a new name for a key that is moved aside. Raises redis-py's errors."""
    seconds, microseconds = client.time()
    return f"{MOVED}{int(seconds) * 1000 + int(microseconds) // 1000}:{key}"


def moved_keys(client: Any) -> Iterator[str]:
    """Yield the names of moved keys, in no order. Raises redis-py's errors."""
    for key in client.scan_iter(f"{MOVED}*", count=1000):
        yield key.decode(errors="replace")


def describe(key: str, kind: str, right: str) -> str:
    """Return a clause for operators, with kombu's separator in a form that `redis-cli` accepts."""
    return f"the key {shown(key)} is a {kind}, but should be a {right}"


def shown(key: str) -> str:
    """Return the name of a key, in quotes and escaped if it has characters that a terminal would not show."""
    if key.isprintable():
        return key
    return '"' + "".join(each if each.isprintable() else f"\\x{ord(each):02x}" for each in key) + '"'
