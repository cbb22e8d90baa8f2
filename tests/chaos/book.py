"""The driver's own file: what it sent and what it was answered, one line of JSON each."""

import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
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
    answer: str = UNKNOWN
    sends: int = 0


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
            records[token] = Record(token, **{name: line[name] for name in fields})
        elif line["what"] == "send":
            records[token].sends += 1
            records[token].request_id = line.get("request_id") or records[token].request_id
        else:
            record = records[token]
            record.request_id = line.get("request_id") or record.request_id
            # Once accepted is accepted, whatever a later repeat is told.
            record.answer = record.answer if record.answer == ACCEPTED else line["answer"]
    return records


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)
