"""Converts a message from the platform's form to the one that a snapshot stores. Pure.

The platform's messages have two forms, and irregular documents occur in both. Settings may give the source fields other
names (`worker.domain.source_fields`). Each stored field and its source:

| stored | source | irregular values |
|---|---|---|
| `id` | `_id` as text | `_id` may have any type |
| `content` | `content` | missing or null becomes empty text; a number, list or document becomes its JSON |
| `timestamp` | `timestamp`, else `createdAt` | ISO 8601 text (UTC if it has no offset) and numbers (seconds; milliseconds from 10^11) are converted; else the time in the ObjectId; else 1970 |
| `sender` | `sender`, else `direction`: `inbound` is `contact`, `outbound` is `user` | else from `senderType`: `CONTACT` is `contact`, any other `user`; else `contact` |
| `senderType` | `senderType`, else `AI` if `isAIGenerated`, else `HUMAN` for outbound and `CONTACT` for inbound | without `direction` the `sender` decides |

All other fields of a message (attachments, reactions, a speaker) are omitted.
"""  # noqa: E501 - a table row is one line

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from bson import DatetimeMS, ObjectId, json_util

from worker.clock import milliseconds
from worker.domain.source_fields import Expression, MessageFields

_SENDERS = {"inbound": "contact", "outbound": "user"}
_FIRST_MILLISECONDS = 1e11
"""Numbers from this one on are milliseconds. As seconds, they would be dates after the year 5138."""
_DIGITS_ONLY = re.compile(r"\d{9,}", re.ASCII)
"""Python also parses 13 digits as a date, of an arbitrary century; they are milliseconds stored as text."""


@dataclass(frozen=True)
class ServerShape:
    """`shape` as MongoDB aggregation expressions over the platform's fields.

    Correct for messages whose fields have the types that `worker.source.message_pipeline` checks.
    """

    fields: MessageFields

    @cached_property
    def sender(self) -> Expression:
        """The sender; null if neither `sender` nor `direction` is known."""
        return {"$ifNull": [self.fields.expression("sender"), self._switch(_SENDERS.items(), [])]}

    @cached_property
    def sender_type(self) -> Expression:
        """The sender type; null if no field determines it."""
        by_direction = [("outbound", "HUMAN"), ("inbound", "CONTACT")]
        guessed = self._switch(by_direction, [("user", "HUMAN"), ("contact", "CONTACT")])
        is_ai = {"$eq": [self.fields.expression("isAIGenerated"), True]}
        return {"$ifNull": [self.fields.expression("senderType"), {"$cond": [is_ai, "AI", guessed]}]}

    @cached_property
    def time(self) -> Expression:
        """The time; null if the message has neither `timestamp` nor `createdAt`."""
        return {"$ifNull": [self.fields.expression("timestamp"), self.fields.expression("createdAt")]}

    @cached_property
    def message(self) -> Expression:
        """The message as a snapshot stores it."""
        return {
            "id": {"$convert": {"input": "$_id", "to": "string", "onError": None}},
            "content": self.fields.expression("content"),
            "sender": self.sender,
            "senderType": self.sender_type,
            "timestamp": self.time,
        }

    def _switch(self, by_direction: Iterable[tuple[str, str]], by_sender: Iterable[tuple[str, str]]) -> Expression:
        cases = [("direction", *pair) for pair in by_direction] + [("sender", *pair) for pair in by_sender]
        branches = [
            {"case": {"$eq": [self.fields.expression(name), value]}, "then": ours} for name, value, ours in cases
        ]
        return {"$switch": {"branches": branches, "default": None}}


def shape(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return `{id, content, sender, senderType, timestamp}` of a source document; `timestamp` is a DatetimeMS."""
    sender = _sender(message)
    return {
        "id": str(message["_id"]),
        "content": _content(message.get("content")),
        "sender": sender,
        "senderType": _sender_type(message, sender),
        "timestamp": DatetimeMS(_time(message)),
    }


def order(message: Mapping[str, Any]) -> tuple[int, str, Any]:
    """Return the sort key of a source document: its time, then the type of its `_id`, then its `_id`."""
    key = message["_id"]
    comparable = isinstance(key, ObjectId | str | int | float)
    return _time(message), type(key).__name__, key if comparable else str(key)


def _content(value: Any) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, str) else json_util.dumps(value, ensure_ascii=False)


def _sender(message: Mapping[str, Any]) -> str:
    sender = message.get("sender")
    if isinstance(sender, str):
        return str(sender)  # bson.Code is a subclass of str, which would be stored as JavaScript
    if direction := _direction(message):
        return _SENDERS[str(direction)]
    kind = message.get("senderType")
    return "user" if isinstance(kind, str) and kind != "CONTACT" else "contact"


def _sender_type(message: Mapping[str, Any], sender: str) -> str:
    kind = message.get("senderType")
    if isinstance(kind, str):
        return str(kind)
    if message.get("isAIGenerated") is True:
        return "AI"
    direction = _direction(message)
    outbound = direction == "outbound" if direction else sender == "user"
    return "HUMAN" if outbound else "CONTACT"


def _direction(message: Mapping[str, Any]) -> str | None:
    """Return `inbound` or `outbound`, or None for any other value."""
    direction = message.get("direction")
    # bson.Code is a str that cannot be hashed
    return direction if isinstance(direction, str) and str(direction) in _SENDERS else None


def _time(message: Mapping[str, Any]) -> int:
    """Return the message's time in milliseconds since 1970."""
    for name in ("timestamp", "createdAt"):
        if (moment := read_time(message.get(name))) is not None:
            return moment
    key = message["_id"]
    return milliseconds(key.generation_time) if isinstance(key, ObjectId) else 0


def read_time(value: Any) -> int | None:
    """Return a time in milliseconds since 1970, or None if the value is none.

    Args:
        value: A BSON date, text in ISO 8601, or a number of seconds or milliseconds.
    """
    if isinstance(value, DatetimeMS):
        return int(value)
    if isinstance(value, datetime):
        return milliseconds(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e17:
        return int(value if abs(value) >= _FIRST_MILLISECONDS else value * 1000)
    if isinstance(value, str) and not _DIGITS_ONLY.fullmatch(value.strip()):
        try:
            return milliseconds(datetime.fromisoformat(value.strip()))
        except (ValueError, OverflowError):
            return None
    return None


def describe(value: Any) -> str | None:
    """Return a contact's name, phone number or email address as text, or None if it is neither text nor an integer."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # JavaScript stores integers beyond 2^31 as floats
    return json.dumps(value) if isinstance(value, int) and not isinstance(value, bool) else None
