"""The import when processes are killed, servers fail, and imports run at the same time."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId
from pymongo import MongoClient
from pymongo.database import Database

from support.imported import assert_conversations_are_whole, counts
from support.neutral import conversation, write
from worker.errors import StoreUnavailable
from worker.importing import Report, import_files
from worker.local.embedded import Servers
from worker.settings import Settings, load
from worker.stores.connections import Connections

ORGANIZATION = ObjectId("6a0000000000000000000001")
COMMAND = "from worker.cli.importing import import_command; import_command()"


@pytest.fixture
def connections(settings: Settings) -> Iterator[Connections]:
    connections = Connections(settings)
    yield connections
    connections.close()


@pytest.fixture
def stored(connections: Connections) -> Database[dict[str, Any]]:
    return connections.database


@contextmanager
def fail_point(servers: Servers, client: MongoClient[Any], mode: object, **data: Any) -> Iterator[int]:
    """Sets MongoDB's `failCommand` for the import's connections only; yields how often it was triggered before.

    https://github.com/mongodb/mongo/wiki/The-%22failCommand%22-fail-point
    """
    if servers.mongod is None:
        pytest.skip("needs a mongod with test commands")
    data |= {"appName": "training-snapshots"}
    try:
        yield client.admin.command("configureFailPoint", "failCommand", mode=mode, data=data)["count"]
    finally:
        client.admin.command("configureFailPoint", "failCommand", mode="off")


def start_import(settings: Settings, path: Path) -> subprocess.Popen[bytes]:
    where = {"SNAPSHOTS_MONGO_URL": settings.mongo_url, "SNAPSHOTS_MONGO_DATABASE": settings.mongo_database}
    arguments = [sys.executable, "-c", COMMAND, str(path), "--organization", str(ORGANIZATION)]
    return subprocess.Popen(arguments, env=os.environ | where, stdout=subprocess.DEVNULL)


def test_a_failover_in_the_middle_is_survived(
    servers: Servers,
    mongo_client: MongoClient[Any],
    connections: Connections,
    stored: Database[dict[str, Any]],
    tmp_path: Path,
) -> None:
    path = write(tmp_path / "all.jsonl", [conversation("c1")])
    stepped_down = {"failCommands": ["insert", "commitTransaction"], "errorCode": 189}  # PrimarySteppedDown
    with fail_point(servers, mongo_client, {"times": 2}, **stepped_down):
        report = import_files([path], ORGANIZATION, connections)
    assert report.stored == 1
    assert_conversations_are_whole(stored, messages=3)


def test_an_unreachable_store_is_reported_immediately(tmp_path: Path) -> None:
    connections = Connections(load(mongo_url="mongodb://127.0.0.1:1/?replicaSet=rs0"))
    try:
        with pytest.raises(StoreUnavailable):
            import_files([write(tmp_path / "all.jsonl", [conversation("c1")])], ORGANIZATION, connections)
    finally:
        connections.close()


@pytest.mark.parametrize("other_text", ["Hello", "other"], ids=["same", "other_content"])
def test_concurrent_imports_store_each_conversation_once_and_completely(
    servers: Servers,
    mongo_client: MongoClient[Any],
    settings: Settings,
    stored: Database[dict[str, Any]],
    tmp_path: Path,
    other_text: str,
) -> None:
    one = write(tmp_path / "one.jsonl", [conversation(f"c{index}", messages=5) for index in range(1500)])
    backwards = [conversation(f"c{index}", messages=5, text=other_text) for index in reversed(range(1500))]
    two = write(tmp_path / "two.jsonl", backwards)
    reports: list[Report] = []

    def work(path: Path) -> None:
        connections = Connections(settings)
        try:
            reports.append(import_files([path], ORGANIZATION, connections))
        finally:
            connections.close()

    threads = [threading.Thread(target=work, args=(path,)) for path in (one, two)]
    # Each holds its first batches open, messages written and conversations not, so that the two surely meet.
    slow = {"failCommands": ["insert"], "namespace": f"{settings.mongo_database}.conversations"}
    with fail_point(servers, mongo_client, {"times": 4}, **slow, blockConnection=True, blockTimeMS=500):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(reports) == 2
    assert sum(each.stored for each in reports) == 1500
    assert sum(each.contacts for each in reports) == 1500
    rest = [each.already_there if other_text == "Hello" else len(each.refused) for each in reports]
    assert sum(rest) == 1500
    assert_conversations_are_whole(stored, messages=5)
    mixed = stored.messages.aggregate(
        [
            {"$group": {"_id": "$conversationId", "said": {"$addToSet": {"$substrBytes": ["$content", 0, 5]}}}},
            {"$match": {"said.1": {"$exists": True}}},
        ]
    )
    assert list(mixed) == []


def test_a_killed_import_leaves_complete_conversations_and_the_next_import_completes_it(
    servers: Servers,
    mongo_client: MongoClient[Any],
    settings: Settings,
    connections: Connections,
    stored: Database[dict[str, Any]],
    tmp_path: Path,
) -> None:
    path = write(tmp_path / "all.jsonl.gz", [conversation(f"c{index}", messages=4) for index in range(1600)])
    third = {"failCommands": ["insert"], "namespace": f"{settings.mongo_database}.conversations"}
    with fail_point(servers, mongo_client, {"skip": 2}, **third, blockConnection=True, blockTimeMS=3000) as before:
        process = start_import(settings, path)
        try:
            # The third batch's messages are written, its conversations not.
            mongo_client.admin.command("waitForFailPoint", "failCommand", timesEntered=before + 1, maxTimeMS=30_000)
        finally:
            process.kill()
            process.wait()
    assert stored.conversations.count_documents({}) == 1000
    assert_conversations_are_whole(stored, messages=4)
    report = import_files([path], ORGANIZATION, connections)
    assert (report.read, report.stored, report.already_there, report.refused) == (1600, 600, 1000, [])
    assert counts(stored) == {"contacts": 1600, "users": 1, "conversations": 1600, "messages": 6400}
    assert_conversations_are_whole(stored, messages=4)
