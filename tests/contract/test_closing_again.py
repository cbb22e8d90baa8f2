"""Reopened and closed again: the new snapshot supersedes the previous one, unless the messages are the same."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from bson import ObjectId

from support.pipeline import run_accepted, service_on
from support.platform import Platform
from worker.closings.accept import Closing, Closings
from worker.runs.commit import Outcome
from worker.runs.run import Run
from worker.runs.supersede import Turn, turn
from worker.service import Receipt, Service
from worker.settings import Settings
from worker.stores.connections import Connections


@pytest.fixture
def service(settings: Settings) -> Iterator[Service]:
    with service_on(settings.model_copy(update={"settle_seconds": 0.0, "retry_floor": timedelta(seconds=0.1)})) as made:
        yield made


@pytest.fixture
def platform(service: Service) -> Platform:
    return Platform(service.connections.database)


def close(service: Service, platform: Platform, conversation: ObjectId, minutes_ago: int = 0) -> ObjectId:
    platform.close(conversation, ago=timedelta(minutes=minutes_ago))
    (receipt,) = Closings(service).accept([Closing(platform.organization, conversation)])
    assert isinstance(receipt, Receipt)
    return receipt.id


def request(platform: Platform, key: ObjectId) -> dict[str, Any]:
    found = platform.database.snapshotrequests.find_one({"_id": key})
    assert found
    return found


def test_closing_after_a_message_more_supersedes_the_previous_snapshot(service: Service, platform: Platform) -> None:
    conversation = platform.converse()
    keys = []
    for minutes_ago in (3, 2, 1):
        keys.append(close(service, platform, conversation, minutes_ago))
        run_accepted(service)
        platform.say(conversation)
    snapshots = platform.snapshots()
    assert [each["_id"] for each in snapshots] == keys
    assert [each["supersedes"] for each in snapshots] == [None, *keys[:2]]
    assert [each["messageCount"] for each in snapshots] == [2, 3, 4]


def test_snapshot_that_a_failover_took_back_is_not_pointed_to(service: Service, platform: Platform) -> None:
    """It was read on a primary that was deposed before the decision."""
    conversation = platform.converse()
    first = _run_closing(service, platform, conversation, 2)
    second = close(service, platform, conversation, 1)
    running = Run(service)
    in_turn = running._in_turn

    def taken_back(entries: Any) -> Any:
        found = in_turn(entries)
        platform.database.snapshotrequests.update_one({"_id": first}, {"$set": {"status": "accepted"}})
        return found

    running._in_turn = taken_back  # type: ignore[method-assign]
    running([second])
    assert request(platform, second)["status"] == "accepted"


def test_closing_with_the_same_messages_is_unchanged_and_makes_no_copy(service: Service, platform: Platform) -> None:
    conversation = platform.converse()
    first, second, third = (_run_closing(service, platform, conversation, ago) for ago in (3, 2, 1))
    assert [each["_id"] for each in platform.snapshots()] == [first]
    for key in (second, third):
        entry = request(platform, key)
        assert (entry["status"], entry["snapshotId"], entry["unchanged"]) == ("completed", first, True)
        assert entry["messageCount"] == 2
    assert "unchanged" not in request(platform, first)
    events = [event for _, event in service.events.read()]
    assert [each["subject"] for each in events] == [str(first)] * 3
    assert [each["data"].get("snapshotId") for each in events] == [None, str(first), str(first)]
    assert [each["data"].get("unchanged") for each in events] == [None, True, True]
    assert len({each["id"] for each in events}) == 3


def _run_closing(service: Service, platform: Platform, conversation: ObjectId, minutes_ago: int) -> ObjectId:
    key = close(service, platform, conversation, minutes_ago)
    run_accepted(service)
    return key


def test_changed_after_unchanged_supersedes_the_one_snapshot_that_there_is(
    service: Service, platform: Platform
) -> None:
    conversation = platform.converse()
    first = _run_closing(service, platform, conversation, 3)
    _run_closing(service, platform, conversation, 2)
    platform.say(conversation)
    third = _run_closing(service, platform, conversation, 1)
    assert {each["_id"]: each["supersedes"] for each in platform.snapshots()} == {first: None, third: first}


def test_closing_waits_while_an_earlier_one_is_undecided(service: Service, platform: Platform) -> None:
    conversation = platform.converse()
    first = close(service, platform, conversation, 2)
    second = close(service, platform, conversation, 1)
    outcome = Run(service)([second])
    assert (outcome.completed, outcome.failed) == (0, 0)
    (postponed,) = outcome.postponed
    assert postponed.error.code == "earlier_closing_undecided"
    assert request(platform, second)["attempts"] == 0
    assert request(platform, second)["lastError"]["code"] == "earlier_closing_undecided"
    assert Run(service)([first, second]).completed == 1  # the first; the second in a run of its own
    platform.say(conversation)
    assert Run(service)([second]).completed == 1
    assert [each["supersedes"] for each in platform.snapshots()] == [None, first]


def test_failed_and_deleted_closings_are_passed_over(service: Service, platform: Platform) -> None:
    conversation = platform.converse()
    first = _run_closing(service, platform, conversation, 5)
    platform.say(conversation)
    deleted = _run_closing(service, platform, conversation, 4)
    service.delete(platform.organization, deleted)
    failed = close(service, platform, conversation, 3)
    platform.database.snapshotrequests.update_one({"_id": failed}, {"$set": {"messageIds": [ObjectId()]}})
    run_accepted(service)
    assert request(platform, failed)["status"] == "failed"
    last = _run_closing(service, platform, conversation, 2)
    assert {each["_id"]: each["supersedes"] for each in platform.snapshots()} == {first: None, last: first}


def test_previous_snapshot_that_was_deleted_leaves_no_unchanged_behind(service: Service, platform: Platform) -> None:
    conversation = platform.converse()
    first = _run_closing(service, platform, conversation, 3)
    service.delete(platform.organization, first)
    second = _run_closing(service, platform, conversation, 2)
    (snapshot,) = platform.snapshots()
    assert (snapshot["_id"], snapshot["supersedes"]) == (second, None)
    assert "unchanged" not in request(platform, second)


def test_snapshot_deleted_between_the_look_and_the_decision_is_not_pointed_to(
    service: Service, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversation = platform.converse()
    first = _run_closing(service, platform, conversation, 3)
    second = close(service, platform, conversation, 2)

    def look_then_delete(service: Service, entries: Any) -> Turn:
        found = turn(service, entries)
        service.delete(platform.organization, first)
        return found

    with monkeypatch.context() as patched:
        patched.setattr("worker.runs.run.turn", look_then_delete)
        assert Run(service)([second]).completed == 0
    outcome: Outcome = Run(service)([second])
    assert outcome.completed == 1
    assert [each["_id"] for each in platform.snapshots()] == [second]


def test_chunk_costs_two_reads_more_and_one_without_closings_none(service: Service, platform: Platform) -> None:
    conversations = platform.converse_often(10)
    for conversation in conversations:
        close(service, platform, conversation, 3)
    run_accepted(service)
    keys = []
    for conversation in conversations:
        platform.say(conversation)
        keys.append(close(service, platform, conversation, 1))
    connections = Connections(service.settings)
    try:
        entries = list(service.ledger.collection.find({"_id": {"$in": keys}}))
        assert len(turn(service, entries).previous) == 10
        assert _reads(connections, lambda: turn(service, entries)) == 2
        others = [{**each, "trigger": "api"} for each in entries]
        assert _reads(connections, lambda: turn(service, others)) == 0
    finally:
        connections.close()
    assert Run(service)(keys).completed == 10
    assert sum(each["supersedes"] is not None for each in platform.snapshots()) == 10


def _reads(connections: Connections, action: Any) -> int:
    """Queries that the database counted meanwhile, by its profiler."""
    database = connections.database
    database.command("profile", 2)
    try:
        database.system.profile.estimated_document_count()
        before = database.system.profile.count_documents({"op": "query", "ns": {"$not": {"$regex": "profile"}}})
        action()
        after = database.system.profile.count_documents({"op": "query", "ns": {"$not": {"$regex": "profile"}}})
    finally:
        database.command("profile", 0)
    return after - before
