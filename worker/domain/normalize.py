"""A message of the platform, as a snapshot keeps it. Pure.

The platform has two shapes of message, and odd documents in both. What becomes of each field:

| stored | from | where odd |
|---|---|---|
| `id` | `_id` as text | any type of `_id` |
| `content` | `content` | missing or null: empty text; a number, list or document: its JSON |
| `timestamp` | `timestamp`, else `createdAt` | text in ISO 8601 (UTC where it names no offset) and numbers (seconds, or milliseconds from 10^11 on) are read; else the time inside the ObjectId; else 1970 |
| `sender` | `sender`, else `direction`: `inbound` is `contact`, `outbound` is `user` | else from `senderType`: `CONTACT` is `contact`, others `user`; else `contact` |
| `senderType` | `senderType`, else `AI` where `isAIGenerated`, else `HUMAN` for outbound and `CONTACT` for inbound | without `direction` the `sender` decides |

Anything else a message has (attachments, reactions, a speaker) is left out.
"""  # noqa: E501 - a table row is one line

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from bson import DatetimeMS, ObjectId, json_util

from worker.clock import milliseconds

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SENDERS = {"inbound": "contact", "outbound": "user"}
_FIRST_MILLISECONDS = 1e11
"""Numbers from here on are milliseconds: as seconds they would be after the year 5138."""
_NO_DATE = re.compile(r"\d{9,}", re.ASCII)
"""Python takes 13 digits for a date, too, of whatever century; they are milliseconds that someone stored as text."""

SERVER_SENDER = {
    "$ifNull": [
        "$sender",
        {
            "$switch": {
                "branches": [{"case": {"$eq": ["$direction", key]}, "then": value} for key, value in _SENDERS.items()],
                "default": None,
            }
        },
    ]
}
SERVER_SENDER_TYPE = {
    "$ifNull": [
        "$senderType",
        {
            "$cond": [
                {"$eq": ["$isAIGenerated", True]},
                "AI",
                {
                    "$switch": {
                        "branches": [
                            {"case": {"$eq": ["$direction", "outbound"]}, "then": "HUMAN"},
                            {"case": {"$eq": ["$direction", "inbound"]}, "then": "CONTACT"},
                            {"case": {"$eq": ["$sender", "user"]}, "then": "HUMAN"},
                            {"case": {"$eq": ["$sender", "contact"]}, "then": "CONTACT"},
                        ],
                        "default": None,
                    }
                },
            ]
        },
    ]
}
SERVER_SHAPE = {
    "id": {"$convert": {"input": "$_id", "to": "string", "onError": None}},
    "content": "$content",
    "sender": SERVER_SENDER,
    "senderType": SERVER_SENDER_TYPE,
    "timestamp": {"$ifNull": ["$timestamp", "$createdAt"]},
}
"""`shape` as an aggregation expression, right for messages whose fields have the types that `grouping` checks."""


def shape(message: Mapping[str, Any]) -> dict[str, Any]:
    """`{id, content, sender, senderType, timestamp}` of a source document; `timestamp` is a DatetimeMS."""
    sender = _sender(message)
    return {
        "id": str(message["_id"]),
        "content": _content(message.get("content")),
        "sender": sender,
        "senderType": _sender_type(message, sender),
        "timestamp": DatetimeMS(_time(message)),
    }


def order(message: Mapping[str, Any]) -> tuple[int, str, Any]:
    """The sort key of a source document: its time, ties by `_id` (of one type; types by name)."""
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
        return str(sender)  # BSON's JavaScript is a str of its own kind, and would be stored as such
    if direction := _direction(message):
        return _SENDERS[direction]
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
    """`inbound` or `outbound`, None for anything else."""
    direction = message.get("direction")
    return direction if isinstance(direction, str) and direction in _SENDERS else None


def _time(message: Mapping[str, Any]) -> int:
    """Milliseconds since 1970."""
    for name in ("timestamp", "createdAt"):
        if (moment := _read_time(message.get(name))) is not None:
            return moment
    key = message["_id"]
    return milliseconds(key.generation_time) if isinstance(key, ObjectId) else milliseconds(EPOCH)


def _read_time(value: Any) -> int | None:
    if isinstance(value, DatetimeMS):
        return int(value)
    if isinstance(value, datetime):
        return milliseconds(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e17:
        return int(value if abs(value) >= _FIRST_MILLISECONDS else value * 1000)
    if isinstance(value, str) and not _NO_DATE.fullmatch(value.strip()):
        try:
            return milliseconds(datetime.fromisoformat(value.strip()))
        except (ValueError, OverflowError):
            return None
    return None


def describe(value: Any) -> str | None:
    """A contact's name part, phone number or address as text; None for what is neither text nor a whole number."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # as JavaScript stores a whole number beyond 2^31
    return json.dumps(value) if isinstance(value, int) and not isinstance(value, bool) else None
