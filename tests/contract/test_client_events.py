"""The Python client follows the event stream as a consumer in a group."""

import json
import threading
import time
from typing import Any

import pytest
import redis
from bson import ObjectId

from support.clients import ask, event_ids
from support.contacts import Contact
from support.in_process import pipeline
from support.intake import EVENTS
from support.waiting import allowed, eventually
from worker.client import SnapshotClient
from worker.errors import InvalidRequest
from worker.service import Service
from worker.settings import Settings


@pytest.fixture
def finished(client: SnapshotClient, contact: Contact, service: Service) -> list[str]:
    """Event ids of four requests."""
    with pipeline(service):
        for _ in range(4):
            client.wait(ask(client, contact), 20)
    return [event["id"] for _, event in service.events.read()]


def test_a_group_gets_every_event_from_the_beginning_and_each_once(client: SnapshotClient, finished: list[str]) -> None:
    assert event_ids(client) == finished
    assert event_ids(client) == []


def test_an_event_whose_body_did_not_end_comes_again(client: SnapshotClient, finished: list[str]) -> None:
    assert event_ids(client, take=lambda each: each != finished[1]) == finished[:2]
    assert event_ids(client) == finished[1:]


def test_what_a_dead_consumer_left_another_takes_over(client: SnapshotClient, finished: list[str]) -> None:
    assert event_ids(client, "dead", take=lambda _: False) == finished[:1]
    time.sleep(0.5)  # idle for longer than take_over_after: nothing to wait for but the time
    assert sorted(event_ids(client, "alive")) == sorted(finished)


def test_events_emitted_again_after_a_flush_are_new_only_to_a_new_iterator(
    client: SnapshotClient, finished: list[str], service: Service
) -> None:
    entries = list(service.ledger.collection.find().sort("_id", 1))
    seen = []
    for event in client.events("g", "c", timeout=allowed(0.5)):
        seen.append(event.id)
        if len(seen) == 4:
            service.connections.redis.flushdb()
            service.events.emit(entries)
    assert sorted(seen) == sorted(finished)
    assert service.connections.redis.xpending(EVENTS, "g")["pending"] == 0


@pytest.mark.filterwarnings("default::pytest.PytestUnhandledThreadExceptionWarning")
def test_consumers_of_a_group_go_on_after_a_flush(
    client: SnapshotClient, finished: list[str], service: Service, settings: Settings
) -> None:
    """All are told at once that their group is gone, and all make it again."""
    entries = list(service.ledger.collection.find().sort("_id", 1))
    faults: list[BaseException] = []
    seen: list[str] = []
    silence = allowed(3)

    def consume(name: str) -> None:
        try:
            with SnapshotClient(settings.redis_url) as mine:
                seen.extend(event.id for event in mine.events("g", name, timeout=silence))
        except Exception as error:
            faults.append(error)
            raise

    threads = [threading.Thread(target=consume, args=(name,)) for name in ("a", "b", "c")]
    for thread in threads:
        thread.start()
    eventually(lambda: set(seen) == set(finished) and blocked(service) == 3)
    service.connections.redis.flushdb()
    service.events.emit([{**each, "_id": ObjectId()} for each in entries])
    for thread in threads:
        thread.join(allowed(30))
    assert faults == []
    assert len(set(seen) - set(finished)) == len(entries)


def blocked(service: Service) -> int:
    """Consumers that wait for an event."""
    clients: Any = service.connections.redis.client_list()
    return sum(each["cmd"] == "xreadgroup" and "b" in each["flags"] for each in clients)


def test_without_a_time_none_is_taken_over(client: SnapshotClient) -> None:
    with pytest.raises(InvalidRequest, match="take_over_after"):
        next(client.events("g", "c", take_over_after=0))


def test_a_foreign_entry_in_the_event_stream_is_passed_over(
    client: SnapshotClient, finished: list[str], settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    ended = {"source": "/training/snapshots", "type": "training.export.completed", "data": {}}
    with redis.Redis.from_url(settings.redis_url) as server:
        server.xadd(EVENTS, {"event": "{}"})
        server.xadd(EVENTS, {"other": "x"})
        server.xadd(EVENTS, {"event": b"\xff\xfe"})
        server.xadd(EVENTS, {"event": json.dumps(ended)})
    assert event_ids(client) == finished
    assert caplog.text.count("it is not an event") == 3, "the end of an export is no cause for a warning"
    with redis.Redis.from_url(settings.redis_url) as server:
        assert server.xpending(EVENTS, "g")["pending"] == 0


def test_timeout_of_zero_reads_what_is_there(
    client: SnapshotClient, finished: list[str], contact: Contact, service: Service
) -> None:
    assert [event.id for event in client.events("g", "c", timeout=0)] == finished
    request_id = service.ledger.collection.find_one({"_id": ObjectId(finished[0].split(".")[0])})
    assert request_id
    with service.connections.redis.pipeline(transaction=False) as pipeline_:
        for _ in range(2500):
            pipeline_.xadd(EVENTS, {"event": "{}"})
        pipeline_.execute()
    assert client.wait(request_id["requestId"], timeout=0).completed
    with pytest.raises(TimeoutError):
        client.wait("another", timeout=0)
