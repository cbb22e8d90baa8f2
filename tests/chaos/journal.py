"""The driver's own record of what it sent and what it was answered: one line of JSON for each."""

import json
import os
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ACCEPTED, SENT, UNKNOWN, REFUSED, NOT_TAKEN = "accepted", "sent", "unknown", "refused", "not taken"
"""Answers: durable by contract; taken by Redis, which is not acceptance; no answer; rejected for good; Redis refused to
write, so that it can be sent again."""

_SYNC_SECONDS = 0.5
_TOKEN = re.compile(rb'"(n\d{7})"')


@dataclass
class Record:
    """What the journal says about one request. `token` is in its tags, and is the only identity that counts."""

    token: str
    channel: str
    organization: str
    expected: str
    """`completed`, or the code of the failure."""
    messages: int
    request_id: str | None
    conversation: str | None
    contact: str | None = None
    message_ids: list[str] | None = None
    quality: str | None = None
    answer: str = UNKNOWN
    sends: list[tuple[float, float]] = field(default_factory=list)
    """Each attempt that Redis did not refuse: when it began and when it was answered, in seconds since 1970."""
    accepted_at: float | None = None
    """When the first answer said that it is accepted."""

    @property
    def is_bare(self) -> bool:
        """Whether it is an XADD or a Celery message without a request id, which its producer cannot repeat."""
        return self.channel in {"stream", "burst", "task"} and not (self.request_id or "").startswith("chaos")


class Journal:
    """Written to by many threads."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")
        self._lock = threading.Lock()
        self._synced = time.monotonic()

    def write(self, **fields: Any) -> None:
        """Writes one line, which is on the disk within half a second."""
        line = json.dumps({"at": time.time(), **fields}) + "\n"
        with self._lock:
            self._file.write(line)
            self._file.flush()
            if time.monotonic() - self._synced > _SYNC_SECONDS:
                os.fsync(self._file.fileno())
                self._synced = time.monotonic()

    def close(self) -> None:
        self._file.close()


_PLANNED = (
    *("channel", "organization", "expected", "messages", "request_id", "conversation"),
    *("contact", "message_ids", "quality"),
)


def read(path: Path) -> dict[str, Record]:
    """Reads the records, by token."""
    records: dict[str, Record] = {}
    for line in _lines(path):
        if line["what"] == "plan":
            planned: dict[str, Any] = {name: line.get(name) for name in _PLANNED}
            records[line["token"]] = Record(line["token"], **planned)
            continue
        record = records[line["token"]]
        record.request_id = line.get("request_id") or record.request_id
        if line["what"] == "send":
            record.sends.append((line["at"], float("inf")))
            continue
        began, _ = record.sends.pop()
        if line["answer"] == NOT_TAKEN:
            continue
        record.sends.append((began, line["at"]))
        # Once accepted is accepted, whatever a later repeat is told.
        record.answer = record.answer if record.answer == ACCEPTED else line["answer"]
        if record.answer == ACCEPTED and record.accepted_at is None:
            record.accepted_at = line["at"]
    return records


def tokens_in(data: bytes) -> set[str]:
    """Returns the tokens of requests in JSON, which entries and messages of faults do not have."""
    return {token.decode() for token in _TOKEN.findall(data)}


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)
