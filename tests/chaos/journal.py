"""The driver's own file: what it sent and what it was answered, one line of JSON each."""

import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ACCEPTED, SENT, UNKNOWN, REFUSED = "accepted", "sent", "unknown", "refused"
"""Answers: durable by contract; taken by Redis, which is no acceptance; no answer; never to be accepted."""

_SYNC_SECONDS = 0.5


@dataclass
class Record:
    """What the file says of one request. `token` stands in its tags, and is the only identity that counts."""

    token: str
    way: str
    organization: str
    expected: str
    """`completed`, or a failure's code."""
    messages: int
    request_id: str | None
    conversation: str | None
    contact: str | None = None
    message_ids: list[str] | None = None
    answer: str = UNKNOWN
    sent_at: list[float] = field(default_factory=list)
    """Every attempt, in seconds since 1970."""
    accepted_at: float | None = None
    """The first answer that says so."""


class Book:
    """Written to by many threads."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")
        self._lock = threading.Lock()
        self._synced = time.monotonic()

    def write(self, **fields: Any) -> None:
        """One line, on the disk within half a second."""
        line = json.dumps({"at": time.time(), **fields}) + "\n"
        with self._lock:
            self._file.write(line)
            self._file.flush()
            if time.monotonic() - self._synced > _SYNC_SECONDS:
                os.fsync(self._file.fileno())
                self._synced = time.monotonic()

    def close(self) -> None:
        self._file.close()


def read(path: Path) -> dict[str, Record]:
    """The records by token."""
    records: dict[str, Record] = {}
    for line in _lines(path):
        token = line["token"]
        if line["what"] == "plan":
            fields = ("way", "organization", "expected", "messages", "request_id", "conversation")
            record = Record(token, **{name: line[name] for name in fields})
            record.contact, record.message_ids = line.get("contact"), line.get("message_ids")
            records[token] = record
        elif line["what"] == "send":
            records[token].sent_at.append(line["at"])
            records[token].request_id = line.get("request_id") or records[token].request_id
        else:
            record = records[token]
            record.request_id = line.get("request_id") or record.request_id
            # Once accepted is accepted, whatever a later repeat is told.
            record.answer = record.answer if record.answer == ACCEPTED else line["answer"]
            if record.answer == ACCEPTED and record.accepted_at is None:
                record.accepted_at = line["at"]
    return records


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)
