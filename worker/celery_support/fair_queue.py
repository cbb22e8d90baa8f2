"""Moves the messages of producers that send very many at once out of the interactive queue.

Otherwise the requests of all other organizations would wait behind them. Listeners accept such requests in chunks,
twenty times as fast as tasks, which accept one at a time.
"""

import json
import re
from base64 import b64decode
from collections.abc import Callable, Sequence
from functools import cache, partial
from traceback import format_tb
from typing import Any

from pydantic_core import from_json

from worker.celery_support.message_format import NOT_BEFORE, check_message, decode_body, parse_message
from worker.celery_support.oldest_messages import MAX_BYTES, SECONDS, Arguments, move_oldest
from worker.domain.fair_shares import smallest
from worker.domain.traceparent import TRACEPARENT, read_traceparent
from worker.errors import InvalidMessage
from worker.intake.batch import INTERACTIVE_LIMIT
from worker.intake.entries import (
    CLOSING,
    DATA_FIELD,
    PRODUCER_TASKS,
    REQUEST,
    REQUESTED,
    RESOLVED,
    TASK_FIELD,
    TRACE_FIELD,
    TYPE_FIELD,
)
from worker.log import get_logger
from worker.settings import Settings
from worker.stores import heartbeat
from worker.stores.wakeups import BULK, INTERACTIVE, MAX_MESSAGE_BYTES

log = get_logger(__name__)

_TYPES = {REQUEST: REQUESTED, CLOSING: RESOLVED}
"""The types of entries, by the tasks of Celery producers."""
_MANY = 100
"""How many messages must wait in the interactive queue. Workers process fewer of them within a second."""
_NONE = ""
"""The organization of a message that names none, which will be rejected."""
_ID = re.compile("[0-9a-f]{24}", re.ASCII | re.IGNORECASE)
_TIMES = ("eta", "expires", NOT_BEFORE)
_MARKER = b"__type__"
"""kombu writes dates and other types that JSON lacks as an object with this name; only Celery can read them."""


def divert_floods(client: Any, settings: Settings, queue: str = INTERACTIVE) -> int:
    """Move the oldest messages of organizations that have many to the intake stream, in their order.

    Of each 500 messages, all wake-ups stay, and so do up to 16 messages of the smallest organizations. A message that
    only a task can process goes to the bulk queue instead: one that has a delay, an expiry, wrong arguments or a value
    that JSON lacks, or that is too large for an entry. While no listener is alive, all moved messages go there.

    In every other queue, where the sweep or exports would wait, all messages of producers are moved.

    Args:
        client: A redis-py client.
        settings: They name the intake stream and its consumer group, and limit the size of an entry.
        queue: The queue that a message of a producer came from.

    Returns:
        How many were moved. `worker.celery_support.oldest_messages` says when it stops.

    Raises:
        redis.RedisError: Redis refused it.
    """
    if queue == INTERACTIVE and client.llen(queue) < _MANY:
        return 0
    limit = INTERACTIVE_LIMIT if queue == INTERACTIVE else 0
    stream, max_bytes = settings.requests_stream, settings.max_entry_bytes
    if not heartbeat.count_listeners(client, stream, settings.consumer_group):
        return move_oldest(client, queue, BULK, "LPUSH", partial(_choose, lambda message: [message], limit))

    def as_entry(message: bytes) -> Arguments:
        return _as_entry(message, max_bytes)

    def unless_entry(message: bytes) -> Arguments:
        return [] if _as_entry(message, max_bytes) else [message]

    moved = move_oldest(client, queue, stream, "XADD", partial(_choose, as_entry, limit), SECONDS / 2)
    return moved + move_oldest(client, queue, BULK, "LPUSH", partial(_choose, unless_entry, limit), SECONDS / 2)


def _choose(convert: Callable[[bytes], Arguments], limit: int, messages: Sequence[bytes]) -> list[Arguments]:
    """Return what becomes of each message.

    `limit`: how many may stay, or fewer if the messages are so large that one step reads few of them; 0 if none may.
    """
    is_cut = sum(map(len, messages)) + MAX_MESSAGE_BYTES > MAX_BYTES
    if limit and len(messages) < _MANY and not is_cut:
        return [[] for _ in messages]
    organizations = [_organization(message) for message in messages]
    few = smallest((each for each in organizations if each is not None), min(limit, len(messages) // 6))
    return [
        [] if organization is None or organization in few else convert(message)
        for message, organization in zip(messages, organizations, strict=True)
    ]


def _as_entry(raw: bytes, max_bytes: int) -> Arguments:
    """Return the arguments of XADD for a message; an empty sequence if it cannot be an entry.

    Listeners of former versions read the entry, too: they ignore the id of the message.
    """
    try:
        message = check_message(raw)
        headers, body = message.headers, b64decode(message.body)
        args, kwargs, _ = from_json(body)
        fits = len(args) == 1 and isinstance(args[0], dict) and not kwargs
        if not fits or _MARKER in body or any(map(headers.get, _TIMES)):
            return []
        data = json.dumps(args[0], ensure_ascii=False).encode()
        fields = {TYPE_FIELD: _TYPES[headers["task"]].encode(), DATA_FIELD: data, TASK_FIELD: headers["id"].encode()}
        if trace := read_traceparent(headers.get(TRACEPARENT)):
            fields[TRACE_FIELD] = trace.encode()
    except (InvalidMessage, ValueError):  # the consumer records what is wrong with it
        return []
    except Exception as error:  # noqa: BLE001 - an error of ours must not end the worker
        _log_once(type(error).__name__, "".join(format_tb(error.__traceback__)))
        return []
    parts = [part for pair in fields.items() for part in pair]
    return ["*", *parts] if sum(map(len, parts)) <= max_bytes else []


@cache
def _log_once(reason: str, at: str) -> None:
    """Log an unexpected error, which each message of a flood would repeat. The messages go to the bulk queue."""
    log.error("message_not_converted", reason=reason, at=at)


def _organization(raw: bytes) -> str | None:
    """Return the organization of a producer's message. None for any other message."""
    try:
        message = parse_message(raw)
        if message["headers"]["task"] not in PRODUCER_TASKS:
            return None
    except (InvalidMessage, TypeError, KeyError):
        return None
    try:
        organization = from_json(decode_body(message))[0][0]["organizationId"]
    except (InvalidMessage, ValueError, TypeError, KeyError, IndexError):
        return _NONE
    return organization.lower() if isinstance(organization, str) and _ID.fullmatch(organization) else _NONE
