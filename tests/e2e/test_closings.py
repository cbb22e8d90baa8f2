"""Closings end to end: the platform writes to MongoDB, producers write to Redis, and processes do the rest."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId

from support.intake import STREAM, listener_process
from support.platform import Platform
from support.stack import Running, stack
from support.waiting import eventually
from worker.local.processes import Child
from worker.settings import Settings

QUICK = {
    "RUN_DEADLINE": "2s",
    "SWEEP_INTERVAL": "0.5s",
    "RETRY_FLOOR": "0.2s",
    "PARENT_WAIT": "2s",
    "SETTLE_SECONDS": "1",
    "RECONCILE_INTERVAL": "2s",
}


@pytest.fixture
def running(settings: Settings, tmp_path: Path) -> Iterator[Running]:
    with stack(settings, tmp_path, QUICK) as made:
        yield made


@pytest.fixture
def platform(running: Running) -> Platform:
    return Platform(running.database)


def listener(running: Running, folder: Path, name: str) -> Child:
    child = listener_process(running.settings, folder / f"{name}.log", {"SNAPSHOTS_SETTLE_SECONDS": "1"})
    child.start()
    return child


def enter(running: Running, platform: Platform, conversation: ObjectId) -> None:
    data = json.dumps({"organizationId": str(platform.organization), "conversationId": str(conversation)})
    running.redis.xadd(STREAM, {"type": "conversation.resolved", "data": data})


def send(running: Running, *arguments: Any) -> str:
    return str(running.app.send_task("conversations.resolved", args=list(arguments), queue="snapshots").id)


def rejected(running: Running) -> dict[str, str]:
    """Returns the code of the reason by origin."""
    found: Any = running.redis.xrange("snapshots:rejected")
    return {fields[b"origin"].decode(): json.loads(fields[b"reason"])["code"] for _, fields in found}


def wait_for_snapshots(platform: Platform, conversations: list[ObjectId]) -> None:
    """Waits for one snapshot per conversation, and no other."""

    def check() -> bool:
        made = [each["conversationId"] for each in platform.snapshots()]
        assert len(made) >= len(conversations), f"{len(made)} of {len(conversations)}"
        return True

    eventually(check, 60, 0.1)
    assert sorted(each["conversationId"] for each in platform.snapshots()) == sorted(conversations)
    assert sorted(each["conversationId"] for each in platform.requests()) == sorted(conversations)


def test_200_closings_reported_in_every_way_around_a_listener_outage_make_one_snapshot_each(
    running: Running, platform: Platform, tmp_path: Path
) -> None:
    by_update, by_entry, by_task, by_all, while_down = (platform.converse_often(40) for _ in range(5))
    platform.close(*platform.converse_often(20, messages=1))
    first = listener(running, tmp_path, "first")
    try:
        platform.close(*by_update)
        for conversation in by_entry + by_all:
            platform.close(conversation)
            enter(running, platform, conversation)
        eventually(lambda: len(platform.requests()) > 60, 45)
    finally:
        first.kill()
    platform.close(*while_down)
    platform.say(while_down[0])  # at once, because beat's reconcile accepts the closing, too
    platform.close(*by_task)
    for conversation in by_task + by_all:
        data = {"organizationId": str(platform.organization), "conversationId": str(conversation)}
        send(running, data)
    second = listener(running, tmp_path, "second")
    try:
        wait_for_snapshots(platform, [*by_update, *by_entry, *by_task, *by_all, *while_down])
    finally:
        second.kill()
    counts = {each["conversationId"]: each["messageCount"] for each in platform.snapshots()}
    assert counts[while_down[0]] == 3
    assert rejected(running) == {}


def test_beat_finds_missed_closings_and_reopened_ones_supersede(running: Running, platform: Platform) -> None:
    conversation, same = platform.converse_often(2)
    platform.close(conversation, same)
    wait_for_snapshots(platform, [conversation, same])
    before = {each["conversationId"]: each["_id"] for each in platform.snapshots()}
    for each in (conversation, same):
        platform.reopen(each)
    platform.say(conversation)
    platform.close(conversation, same)
    eventually(lambda: running.database.snapshotrequests.count_documents({"status": "completed"}) == 4, 45)
    (new,) = (each for each in platform.snapshots() if each["_id"] not in before.values())
    assert (new["conversationId"], new["supersedes"]) == (conversation, before[conversation])
    (unchanged,) = running.database.snapshotrequests.find({"unchanged": True})
    assert unchanged["snapshotId"] == before[same]


def test_task_without_a_valid_closing_is_rejected_with_the_reason(running: Running, platform: Platform) -> None:
    still_open = {"organizationId": str(platform.organization), "conversationId": str(platform.converse())}
    late = {"organizationId": str(platform.organization), "conversationId": str(platform.converse())}
    origins = {
        f"task:{send(running, still_open)}": "not_resolved_yet",
        f"task:{send(running, {**still_open, 'conversationId': 'x'})}": "invalid_request",
        f"task:{send(running, 'resolved')}": "invalid_request",
        f"task:{send(running)}": "invalid_request",
    }
    send(running, late)
    platform.close(ObjectId(late["conversationId"]))
    eventually(lambda: rejected(running) == origins, 45)
    wait_for_snapshots(platform, [ObjectId(late["conversationId"])])
