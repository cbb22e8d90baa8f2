"""Faults that callers cause: malformed Celery messages, huge intake entries, an organization that floods."""

import json
import time
from collections.abc import Iterator
from typing import Any

import redis

from chaos.context import Context
from support.malformed import kinds
from worker.stores.wakeups import QUEUES

_STREAM = "snapshots:requests"
_FLOOD = 3000
_MEGABYTE = 1_000_000
_ORGANIZATION, _CONTACT = "a" * 24, "b" * 24


def malformed_messages(context: Context) -> str:
    """Pushes every kind of malformed message into each of Celery's lists, among the valid ones."""
    pushed = 0
    with context.servers.redis() as broker:
        for queue in QUEUES:
            messages = list(kinds(queue).values())
            for message in context.dice.sample(messages, len(messages)):
                _until_taken(context, lambda queue=queue, message=message: broker.lpush(queue, message))
                context.pause(0.02)
                pushed += 1
    return f"{pushed} messages"


def huge_entries(context: Context) -> str:
    """Adds intake entries of 1 to 4 MB that are full of faults, or deeply nested."""
    entries = list(_entries())
    with context.servers.redis() as broker:
        for data in entries:
            entry: Any = {"type": "snapshot.requested", "data": data}
            _until_taken(context, lambda entry=entry: broker.xadd(_STREAM, entry))
            context.pause(0.2)
    return f"{len(entries)} entries, {sum(map(len, entries)) // _MEGABYTE} MB"


def flood(context: Context) -> str:
    """One organization sends thousands of requests at once, through the intake stream and HTTP."""
    if context.driver is None or context.dataset is None:
        raise LookupError("the driver does not run")
    context.driver.add(context.dataset.flood(_FLOOD))
    return f"{_FLOOD} requests"


def _until_taken(context: Context, command: Any) -> None:
    """Repeats a command while another fault keeps Redis from taking it, for at most 30 s. Raises RedisError."""
    deadline = time.monotonic() + 30.0
    while True:
        try:
            command()
        except redis.RedisError:
            if time.monotonic() > deadline:
                raise
            context.pause(0.2)
        else:
            return


# --- huge entries -------------------------------------------------------------------------------------------


def _entries() -> Iterator[bytes]:
    owner = {"organizationId": _ORGANIZATION, "contactId": _CONTACT}
    yield json.dumps({**owner, "messageIds": [1] * (_MEGABYTE // 3)}).encode()
    yield json.dumps({**owner, "messageIds": [1] * (4 * _MEGABYTE // 3)}).encode()
    yield json.dumps({**owner, "tags": [5] * (_MEGABYTE // 3)}).encode()
    yield json.dumps({**owner, **{f"unknown{number}": 1 for number in range(90_000)}}).encode()
    yield json.dumps({**owner, "notes": "x" * (2 * _MEGABYTE)}).encode()
    yield json.dumps({**owner, "requestId": "r" * _MEGABYTE}).encode()
    yield b"[" * (_MEGABYTE // 2) + b"]" * (_MEGABYTE // 2)
    yield b"x" * (3 * _MEGABYTE)
