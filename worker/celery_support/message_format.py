"""The format of a message in a Celery queue, checked before kombu and Celery use it.

Celery's parent process trusts what it finds in a list: a header of another type or a deeply nested argument raises in
its event loop and ends the worker. `check_message` therefore checks all that kombu, the consumer and the pool use. A
message is

    {body: base64 of [args, kwargs, options], content-type, content-encoding, headers: {task, id, ...}, properties}

in protocol 2, the default since Celery 4. It may be nested up to 200 levels deep, the limit of pydantic-core's parser;
pickle, which hands it to the pool, fails at about 500.
https://docs.celeryq.dev/en/stable/internals/protocol.html
"""

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import MAXYEAR, MINYEAR, UTC, datetime, timedelta
from typing import Any

from celery.app.task import Context
from celery.utils.time import maybe_iso8601
from pydantic_core import from_json

from worker.domain.validation import json_type
from worker.errors import InvalidMessage
from worker.stores.wakeups import MAX_MESSAGE_BYTES

CARRIER = "snapshots.rejected"
"""The task name of a carrier, which no sender may use. There is no such task."""
NOT_BEFORE = "not-before"
"""The header to which the `eta` of a producer's request is moved (`worker.celery_support.payloads`)."""
MAX_ETA = timedelta(minutes=15)
"""Maximum delay. Redis redelivers messages that a worker holds for longer than the visibility timeout."""

_JSON, _CODINGS = "application/json", {"utf-8", "utf8", "us-ascii", "ascii", "binary", ""}
_MAX_NAME, _MAX_TEXT, _MAX_COUNT, _MAX_LIMIT = 255, 10_000, 1_000_000, 3600
_WORKFLOW = ("callbacks", "errbacks", "chain", "chord")


@dataclass(frozen=True, slots=True)
class CheckedMessage:
    """The parts of a valid message that this project uses."""

    body: str
    headers: dict[str, Any]
    correlation_id: str | None
    reply_to: str | None
    redelivered: bool


def check_message(raw: bytes) -> CheckedMessage:
    """Return the parts of a message. Raises InvalidMessage, which names the first fault."""
    message = parse_message(raw)
    headers, properties = _object("headers", message.get("headers")), _properties(message)
    _check_content(message)
    checked = _check_headers(headers)
    _check_body(decode_body(message))
    delivery = properties.get("delivery_info")
    return CheckedMessage(
        body=message["body"],
        headers=checked,
        correlation_id=_text_property(properties, "correlation_id"),
        reply_to=_text_property(properties, "reply_to"),
        redelivered=isinstance(delivery, dict) and delivery.get("redelivered") is True,
    )


def parse_message(raw: bytes) -> dict[str, Any]:
    """Parse the JSON object of a message. Raises InvalidMessage."""
    if len(raw) > MAX_MESSAGE_BYTES:
        raise fault("message", f"should have at most {MAX_MESSAGE_BYTES:,} bytes, but has {len(raw):,}")
    return _object("message", _parse("message", raw))


def decode_body(message: Mapping[str, Any]) -> bytes:
    """Decode the body of a message from base64. Raises InvalidMessage."""
    if _properties(message).get("body_encoding") != "base64":
        raise fault("properties.body_encoding", "should be base64")
    body = message.get("body")
    if not isinstance(body, str):
        raise fault("body", f"should be a string in base64, but is {json_type(body)}")
    try:
        return base64.b64decode(body)
    except (binascii.Error, ValueError):
        raise fault("body", "should be in base64") from None


def fault(field: str, message: str) -> InvalidMessage:
    """Return the error for one field of a message. `field`: its path, such as `headers.task`."""
    return InvalidMessage([{"field": field, "message": message}])


# --- the parts of a message ------------------------------------------------------------------------------


def _parse(field: str, text: bytes) -> Any:
    try:
        return from_json(text)
    except ValueError as error:
        raise fault(field, f"should be JSON in UTF-8, nested at most 200 levels deep: {error}") from None


def _object(field: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise fault(field, f"should be a JSON object, but is {json_type(value)}")
    return value


def _check_content(message: Mapping[str, Any]) -> None:
    if message.get("content-type") != _JSON:
        raise fault("content-type", f"should be {_JSON}")
    coding = message.get("content-encoding")
    if not (coding is None or (isinstance(coding, str) and coding.lower() in _CODINGS)):
        raise fault("content-encoding", "should be utf-8")


def _properties(message: Mapping[str, Any]) -> dict[str, Any]:
    return _object("properties", message.get("properties"))


def _check_body(text: bytes) -> None:
    body = _parse("body", text)
    if not isinstance(body, list) or len(body) != 3:
        raise fault("body", "should be an array of three: positional arguments, named arguments, options")
    args, kwargs, embed = body
    if not isinstance(args, list):
        raise fault("body.0", f"should be an array of positional arguments, but is {json_type(args)}")
    if not isinstance(kwargs, dict):
        raise fault("body.1", f"should be an object of named arguments, but is {json_type(kwargs)}")
    if not (embed is None or isinstance(embed, dict)):
        raise fault("body.2", f"should be an object of options, but is {json_type(embed)}")
    for name in _WORKFLOW:
        if embed and embed.get(name):
            raise fault(f"body.2.{name}", "is not supported: follow the event stream for the outcome")


def _text_property(properties: Mapping[str, Any], name: str) -> str | None:
    value = properties.get(name)
    if value is None or _is_text(value):
        text: str | None = value
        return text
    raise fault(f"properties.{name}", _A_TEXT)


# --- headers ---------------------------------------------------------------------------------------------


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= _MAX_TEXT


def is_name(value: Any) -> bool:
    """Return whether a value can be the name or the id of a task."""
    return isinstance(value, str) and 0 < len(value) <= _MAX_NAME


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= _MAX_COUNT


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_limit(value: Any) -> bool:
    """Return whether it is a time limit in seconds. NaN compares false."""
    return value is None or (isinstance(value, int | float) and 1 <= value <= _MAX_LIMIT and value is not True)


def _is_limit_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_limit, value))


def _is_name_list(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _is_mapping(value: Any) -> bool:
    return isinstance(value, dict)


def _is_ahead(value: Any) -> bool:
    moment = read_time(value)
    return moment is not None and moment > datetime.now(UTC)


def _is_near(value: Any) -> bool:
    moment = read_time(value)
    return moment is not None and moment <= datetime.now(UTC) + MAX_ETA


def read_time(value: Any) -> datetime | None:
    """Return the time that text in ISO 8601 states, in UTC if it has no offset; None for any other value."""
    if not is_name(value):
        return None
    try:
        moment: Any = maybe_iso8601(value)
    except (ValueError, OverflowError):
        return None
    if not MINYEAR < moment.year < MAXYEAR:  # a change of its time zone must not leave Python's range
        return None
    aware: datetime = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return aware


_A_NAME = f"should be a string of 1 to {_MAX_NAME} characters"
_A_TEXT = f"should be a string of at most {_MAX_TEXT:,} characters"
_A_TIME = f"should be a date in ISO 8601, at most {MAX_ETA.total_seconds() / 60:g} minutes ahead"
_HEADERS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "task": (is_name, _A_NAME),
    "id": (is_name, _A_NAME),
    **dict.fromkeys(("lang", "root_id", "parent_id", "group", "shadow", "origin"), (_is_text, _A_TEXT)),
    **dict.fromkeys(("argsrepr", "kwargsrepr"), (_is_text, _A_TEXT)),
    **dict.fromkeys(("eta", NOT_BEFORE), (_is_near, _A_TIME)),
    "expires": (_is_ahead, "should be a date in ISO 8601 that has not passed"),
    "retries": (_is_count, f"should be an integer from 0 to {_MAX_COUNT:,}"),
    **dict.fromkeys(("group_index", "replaced_task_nesting"), (_is_count, "should be an integer")),
    "timelimit": (_is_limit_pair, f"should be an array of two, each null or a number from 1 to {_MAX_LIMIT:,}"),
    "ignore_result": (_is_flag, "should be true or false"),
    "stamped_headers": (_is_name_list, "should be an array of strings"),
    "stamps": (_is_mapping, "should be an object"),
    "headers": (_is_mapping, "should be an object"),
}
"""Celery's headers: a check of the value, and what it should be. All except `task` and `id` may be missing or null."""
_RESERVED = frozenset(dir(Context)) - _HEADERS.keys() | {"compression"}
"""Names that a header must not have: Celery would overwrite its own attributes, or decompress without a limit."""


def _check_headers(headers: Mapping[str, Any]) -> dict[str, Any]:
    for name in ("task", "id"):
        if not is_name(headers.get(name)):
            raise fault(f"headers.{name}", _A_NAME)
    if headers["task"] == CARRIER:
        raise fault("headers.task", "is reserved for messages that a worker has rejected")
    checked: dict[str, Any] = {}
    for name, value in headers.items():
        if value is not None:
            if check := _HEADERS.get(name):
                is_valid, expected = check
                if not is_valid(value):
                    raise fault(f"headers.{name}", expected)
            elif name in _RESERVED:
                raise fault(f"headers.{name}", "is not allowed")
        elif name in _RESERVED:
            continue
        checked[name] = value
    # A hard time limit would kill the pool process, and headers inside headers would replace the real ones in a retry.
    _, soft_limit = headers.get("timelimit") or (None, None)
    checked.pop("headers", None)
    checked["timelimit"] = [None, soft_limit]
    checked["retries"] = headers.get("retries") or 0
    return checked
