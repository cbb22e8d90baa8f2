"""The export is streamed: memory holds a slice, whatever the number of snapshots and the speed of the client."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from bson import ObjectId
from pymongo import MongoClient
from pymongo.database import Database

from support.http import EXPORT, SNAPSHOTS, api, bearer, token
from support.waiting import eventually
from worker.local.processes import Child
from worker.settings import Settings

LIMIT = 50 * 1024 * 1024


@dataclass
class Exporting:
    """An API process and an organization to fill with snapshots."""

    url: str
    process: Child
    database: Database[dict[str, Any]]
    organization: ObjectId

    @property
    def headers(self) -> dict[str, str]:
        return bearer(token(self.organization))

    def fill(self, count: int, letters: int = 62) -> None:
        """Insert snapshots with 20 messages of so many letters, as the pipeline stores them."""
        now = self.database.client.admin.command("hello")["localTime"]
        message = {"id": "x", "content": "a" * letters, "sender": "contact", "senderType": "CONTACT", "timestamp": now}
        base = {
            "organizationId": self.organization,
            "contactId": ObjectId(),
            "customerName": "Priya Holloway",
            "customerPhone": None,
            "customerEmail": "priya@example.com",
            "messages": [message] * 20,
            "messageCount": 20,
            "tags": ["billing"],
            "quality": "excellent",
            "category": "support",
            "isArchived": False,
            "createdAt": now,
        }
        for first in range(0, count, 1000):
            documents = [{"_id": ObjectId(), **base} for _ in range(min(1000, count - first))]
            self.database.trainingsnapshots.insert_many(documents, ordered=False)

    def open_cursors(self) -> int:
        return int(self.database.client.admin.command("serverStatus")["metrics"]["cursor"]["open"]["total"])


@pytest.fixture
def exporting(settings: Settings, tmp_path: Path) -> Iterator[Exporting]:
    with api(settings, tmp_path) as (url, process), MongoClient[dict[str, Any]](settings.mongo_url) as client:
        made = Exporting(url, process, client[settings.mongo_database], ObjectId())
        made.fill(1)  # what is made once is no growth
        assert httpx.get(url + EXPORT, headers=made.headers).json()["totalSnapshots"] == 1
        assert httpx.get(url + SNAPSHOTS, headers=made.headers).status_code == 200
        yield made


@contextmanager
def watched(process: Child) -> Iterator[list[int]]:
    """The growth of the process's memory in bytes; after the block, the last item is the maximum."""
    memory = psutil.Process(process.pid)
    before = memory.memory_info().rss
    grown = [0]
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.02):
            grown.append(max(grown[-1], memory.memory_info().rss - before))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield grown
    finally:
        ended.set()
        watcher.join()


def download(exporting: Exporting, pause: float = 0.0) -> tuple[int, int]:
    """Return the numbers of snapshots and bytes received. The client pauses once, for `pause` seconds."""
    seen = size = 0
    end = b""
    with httpx.stream("GET", exporting.url + EXPORT, headers=exporting.headers, timeout=120) as answer:
        assert answer.status_code == 200
        for part in answer.iter_bytes():
            if not size:
                assert threading.Event().wait(pause) is False
            whole = end + part  # a part may end within the word that is counted
            seen += whole.count(b'"customer":')
            size += len(part)
            end = whole[-11:] if whole[-11:] != b'"customer":' else b""
    assert end.endswith(b"]}")
    return seen, size


def test_export_holds_a_slice_in_memory_even_for_a_slow_client(exporting: Exporting) -> None:
    exporting.fill(200, letters=20_000)
    with watched(exporting.process) as grown:
        seen, size = download(exporting, pause=0.5)
    assert (seen, size > 80_000_000) == (201, True)
    assert grown[-1] < LIMIT


def test_client_that_disconnects_during_the_export_leaves_no_cursor_open(exporting: Exporting) -> None:
    exporting.fill(60, letters=20_000)
    before = exporting.open_cursors()
    with httpx.stream("GET", exporting.url + EXPORT, headers=exporting.headers) as answer:
        next(answer.iter_bytes())
        assert exporting.open_cursors() == before + 1
    eventually(lambda: exporting.open_cursors() == before, 45)
    assert httpx.get(exporting.url + SNAPSHOTS, headers=exporting.headers).status_code == 200
    assert exporting.process.log is not None
    assert '"level": "error"' not in exporting.process.log.read_text()


@pytest.mark.acceptance
@pytest.mark.timeout(400)
def test_export_of_100_000_snapshots_grows_by_less_than_50_mb(exporting: Exporting) -> None:
    exporting.fill(99_999)
    started = time.monotonic()
    with watched(exporting.process) as grown:
        seen, size = download(exporting, pause=2.0)
    print(f"{seen} snapshots, {size / 1e6:.0f} MB in {time.monotonic() - started:.1f} s, grew {grown[-1] / 1e6:.1f} MB")
    assert seen == 100_000
    assert grown[-1] < LIMIT
