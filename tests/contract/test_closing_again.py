"""A conversation that is closed again: the new snapshot supersedes the previous one, unless no message changed."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from bson import ObjectId

from support.pipeline import run_accepted, service_on
from support.platform import Platform
from worker.closings.accept import Closings
from worker.closings.results import ClosedConversation
from worker.domain.ledger_entry import with_fields
from worker.runs.run import Run
from worker.runs.supersede import order_closings
from worker.service import Receipt, Service
from worker.settings import Settings
from worker.source.conversations import Conversations
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
    (receipt,) = Closings(service).accept([ClosedConversation(platform.organization, conversation)])
    assert isinstance(receipt, Receipt)
    return receipt.id


def request(platform: Platform, key: ObjectId) -> dict[str, Any]:
    entry = platform.database.snapshotrequests.find_one({"_id": key})
    assert entry
    return entry


class InterposedReads(Conversations):
    """Runs an action before it reads messages, that is, after the previous snapshot was looked up."""

    def __init__(self, service: Service, action: Callable[[], object]) -> None:
        super().__init__(service.connections)
        self._action = action

    def fetch(self, entries: Any) -> Any:
        self._action()
        return super().fetch(entries)


def test_closing_after_another_message_supersedes_the_previous_snapshot(service: Service, platform: Platform) -> None:
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


def test_snapshot_that_a_failover_rolled_back_is_not_referred_to(service: Service, platform: Platform) -> None:
    """It was read from a primary that was deposed before the commit."""
    conversation = platform.converse()
    first = _run_closing(service, platform, conversation, 2)
    second = close(service, platform, conversation, 1)
    requests = platform.database.snapshotrequests
    service.conversations = InterposedReads(
        service, lambda: requests.update_one({"_id": first}, {"$set": {"status": "accepted"}})
    )
    Run(service)([second])
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


def test_changed_after_unchanged_supersedes_the_only_snapshot(service: Service, platform: Platform) -> None:
    conversation = platform.converse()
    first = _run_closing(service, platform, conversation, 3)
    _run_closing(service, platform, conversation, 2)
    platform.say(conversation)
    third = _run_closing(service, platform, conversation, 1)
    assert {each["_id"]: each["supersedes"] for each in platform.snapshots()} == {first: None, third: first}


def test_previous_snapshot_without_content_hash_is_superseded(service: Service, platform: Platform) -> None:
    """The platform's own code may rewrite snapshots and drop fields that it does not know."""
    conversation = platform.converse()
    first = _run_closing(service, platform, conversation, 2)
    platform.database.trainingsnapshots.update_one({"_id": first}, {"$unset": {"contentHash": ""}})
    second = _run_closing(service, platform, conversation, 1)
    assert {each["_id"]: each["supersedes"] for each in platform.snapshots()} == {first: None, second: first}


def test_closing_waits_while_an_earlier_one_is_undecided(service: Service, platform: Platform) -> None:
    conversation = platform.converse()
    first = close(service, platform, conversation, 2)
    second = close(service, platform, conversation, 1)
    result = Run(service)([second])
    assert (result.completed, result.failed) == (0, 0)
    (postponed,) = result.postponed
    assert postponed.error.code == "earlier_closing_undecided"
    assert request(platform, second)["attempts"] == 0
    assert request(platform, second)["lastError"]["code"] == "earlier_closing_undecided"
    assert Run(service)([first, second]).completed == 1  # the first; the second needs a run of its own
    platform.say(conversation)
    assert Run(service)([second]).completed == 1
    assert [each["supersedes"] for each in platform.snapshots()] == [None, first]


def test_failed_and_deleted_closings_are_ignored(service: Service, platform: Platform) -> None:
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


def test_snapshot_deleted_between_its_lookup_and_the_commit_is_not_referred_to(
    service: Service, platform: Platform
) -> None:
    conversation = platform.converse()
    first = _run_closing(service, platform, conversation, 3)
    second = close(service, platform, conversation, 2)
    own = service.conversations
    service.conversations = InterposedReads(service, lambda: service.delete(platform.organization, first))
    assert Run(service)([second]).completed == 0
    service.conversations = own
    assert Run(service)([second]).completed == 1
    assert [each["_id"] for each in platform.snapshots()] == [second]


def test_chunk_with_closings_costs_two_more_reads(service: Service, platform: Platform) -> None:
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
        assert len(order_closings(service, entries).previous) == 10
        assert _reads(connections, lambda: order_closings(service, entries)) == 2
        others = [with_fields(each, trigger="api") for each in entries]
        assert _reads(connections, lambda: order_closings(service, others)) == 0
    finally:
        connections.close()
    assert Run(service)(keys).completed == 10
    assert sum(each["supersedes"] is not None for each in platform.snapshots()) == 10


def _reads(connections: Connections, action: Any) -> int:
    """Counts the queries of an action with the database's profiler."""
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
