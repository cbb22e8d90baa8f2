"""The export is streamed: memory holds a slice, whatever the number of snapshots."""

import json
import threading
import time
from pathlib import Path

import httpx
import psutil
import pytest
from bson import ObjectId
from pymongo import MongoClient

from support.http import EXPORT, SNAPSHOTS, api, bearer, token
from support.served import own_settings
from worker.embedded import Servers

LIMIT = 50 * 1024 * 1024


def fill(client: MongoClient[dict[str, object]], database: str, organization: ObjectId, count: int) -> None:
    """Snapshots of 20 messages, as the pipeline stores them."""
    contact = ObjectId()
    text = "Where is my order, please? I have waited for a week and a day."
    message = {"id": "x", "content": text, "sender": "contact", "senderType": "CONTACT"}
    with_time = client.admin.command("hello")["localTime"]
    base = {
        "organizationId": organization,
        "contactId": contact,
        "customerName": "Priya Holloway",
        "customerPhone": None,
        "customerEmail": "priya@example.com",
        "messages": [{**message, "timestamp": with_time}] * 20,
        "messageCount": 20,
        "tags": ["billing"],
        "quality": "excellent",
        "category": "support",
        "isArchived": False,
        "createdAt": with_time,
    }
    for first in range(0, count, 1000):
        documents = [{"_id": ObjectId(), **base} for _ in range(min(1000, count - first))]
        client[database].trainingsnapshots.insert_many(documents, ordered=False)


def check(servers: Servers, folder: Path, count: int) -> float:
    """Exports so many; how much the API's memory grew at most, in bytes."""
    settings = own_settings(servers)
    organization = ObjectId()
    with api(settings, folder) as (url, process), MongoClient[dict[str, object]](settings.mongo_url) as client:
        headers = bearer(token(organization))
        fill(client, settings.mongo_database, organization, 1)
        assert httpx.get(url + EXPORT, headers=headers).json()["totalSnapshots"] == 1
        assert httpx.get(url + SNAPSHOTS, headers=headers).status_code == 200
        fill(client, settings.mongo_database, organization, count - 1)
        memory = psutil.Process(process.pid)
        before = most = memory.memory_info().rss
        ended = threading.Event()

        def watch() -> None:
            nonlocal most
            while not ended.wait(0.02):
                most = max(most, memory.memory_info().rss)

        watcher = threading.Thread(target=watch)
        watcher.start()
        started = time.monotonic()
        seen = size = 0
        head = b""
        with httpx.stream("GET", url + EXPORT, headers=headers, timeout=120) as answer:
            assert answer.status_code == 200
            for part in answer.iter_bytes():
                head = head or part[:200]
                seen += part.count(b'"customer":')
                size += len(part)
                end = part[-2:]
        ended.set()
        watcher.join()
        print(f"{count} snapshots, {size / 1e6:.0f} MB in {time.monotonic() - started:.1f} s")
        client.drop_database(settings.mongo_database)
        assert json.loads(head.split(b',"data"')[0] + b"}")["totalSnapshots"] == count
        # A part may be cut within the word that is counted.
        assert end == b"]}"
        assert count - count // 50 <= seen <= count
        return most - before


def test_export_of_20_000_snapshots_takes_no_more_memory_than_its_slices(servers: Servers, tmp_path: Path) -> None:
    assert check(servers, tmp_path, 20_000) < LIMIT


@pytest.mark.acceptance
@pytest.mark.timeout(400)
def test_export_of_100_000_snapshots_grows_by_less_than_50_mb(servers: Servers, tmp_path: Path) -> None:
    grown = check(servers, tmp_path, 100_000)
    print(f"grew by {grown / 1e6:.1f} MB")
    assert grown < LIMIT
