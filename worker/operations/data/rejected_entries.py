"""Reads the stream of rejected intake entries."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from bson import ObjectId

from worker.clock import from_milliseconds
from worker.domain.requests import read_object_id
from worker.intake.entries import REQUESTED, RESOLVED, TASK_PREFIX
from worker.stores.connections import Connections, broker_errors

_MAX_DEPTH = 10
"""Content that is nested deeper is not indented: a megabyte of it would become hundreds. A request has three levels."""
_READ_SIZE = 20
_SECONDS = 1.0
"""Time limit in seconds for reading a page, because an organization may have few entries among many, or large ones."""


@dataclass(frozen=True)
class RejectedEntry:
    """A rejected entry. `fields` are the original's, and may hold personal data and megabytes.

    `origin`: the id of the original stream entry, or `task:` and the id of a Celery task.
    """

    id: str
    origin: str
    code: str
    message: str
    fields: Mapping[str, Any]

    @property
    def at(self) -> datetime:
        """When it was rejected, by Redis's clock."""
        return from_milliseconds(int(self.id.split("-", maxsplit=1)[0]))

    @property
    def is_task(self) -> bool:
        """Whether it came as a Celery task."""
        return self.origin.startswith(TASK_PREFIX)

    @cached_property
    def data(self) -> str:
        """The content to correct: JSON if it is JSON, indented unless it is nested deeply, else the original text."""
        try:
            return _indented(self._content)
        except (ValueError, TypeError, RecursionError):
            return str(self.fields.get("data") or "").encode(errors="backslashreplace").decode()

    @cached_property
    def type(self) -> str:
        """The entry's type or, if that is missing or unknown, the type that its content suggests."""
        if self.fields.get("type") in {REQUESTED, RESOLVED}:
            return str(self.fields["type"])
        return REQUESTED if "contactId" in self.data or "conversationId" not in self.data else RESOLVED

    @cached_property
    def organization(self) -> ObjectId | None:
        """The organization that the entry names, if any."""
        try:
            content = self._content
            return read_object_id(content.get("organizationId")) if isinstance(content, dict) else None
        except (ValueError, TypeError, RecursionError):
            return None

    @property
    def _content(self) -> Any:
        """The content as read from JSON. Raises ValueError, TypeError, RecursionError."""
        if self.is_task:
            args = self.fields.get("args")
            return args[0] if isinstance(args, list) and args else {}
        return json.loads(self.fields.get("data") or "")


class RejectedEntries:
    """The stream of rejected entries. If an organization is given, only its entries are visible."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._stream = connections.settings.rejected_stream

    def page(
        self, organization: ObjectId | None, limit: int, after: str | None = None
    ) -> tuple[list[RejectedEntry], str | None]:
        """Return up to `limit` entries, newest first, and the cursor of the next page, if any.

        `organization`: only entries that name it; None for all. `after`: the cursor of the page; None for the first
        one. Raises BrokerUnavailable.
        """
        entries: list[RejectedEntry] = []
        cursor = after
        stop_at = time.monotonic() + _SECONDS
        while True:
            read = self._read_before(cursor)
            for key, fields in read:
                entry = _rejected_entry(key, fields)
                owner = entry.organization  # read here, in a thread
                if organization in (None, owner):
                    entries.append(entry)
                    if len(entries) > limit:
                        return entries[:limit], entries[limit - 1].id
            if len(read) < _READ_SIZE:
                return entries, None
            cursor = read[-1][0].decode()
            if time.monotonic() >= stop_at:
                return entries, cursor

    def _read_before(self, cursor: str | None) -> Any:
        newest = f"({cursor}" if cursor else "+"
        with broker_errors():
            return self._connections.redis.xrevrange(self._stream, max=newest, count=_READ_SIZE)

    def find(self, key: str, organization: ObjectId | None) -> RejectedEntry | None:
        """Return one entry with its content, or None. Raises BrokerUnavailable."""
        with broker_errors():
            read: Any = self._connections.redis.xrange(self._stream, key, key)
        if not read:
            return None
        entry = _rejected_entry(*read[0])
        _ = entry.type, entry.data  # read here, in a thread
        return entry if organization in (None, entry.organization) else None


def _rejected_entry(key: bytes, fields: Mapping[bytes, bytes]) -> RejectedEntry:
    """Read a stream entry, which any program may have added. Fields that cannot be read are empty."""
    reason, original = _json_object(fields.get(b"reason")), _json_object(fields.get(b"entry"))
    origin = fields.get(b"origin", b"").decode(errors="replace")
    code, message = reason.get("code"), reason.get("message")
    return RejectedEntry(key.decode(), origin, str(code or "unknown"), str(message or ""), original)


def _json_object(text: bytes | None) -> dict[str, Any]:
    try:
        value = json.loads(text or b"{}")
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _indented(value: Any) -> str:
    indent = None if _is_deep(value) else 2
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair
        return json.dumps(value, indent=indent)
    return text


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(_MAX_DEPTH):
        inside = (each.values() if isinstance(each, dict) else each for each in level if isinstance(each, dict | list))
        level = [item for items in inside for item in items]
    return any(isinstance(each, dict | list) for each in level)
