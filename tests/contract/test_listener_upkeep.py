"""The intake stream is trimmed, and consumers of dead listeners are removed."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from support.intake import GROUP, STREAM, Producer, listening
from worker.bootstrap import build
from worker.intake.stream import IntakeStream
from worker.intake.upkeep import StreamUpkeep
from worker.service import Service
from worker.settings import Settings


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"listener_idle": timedelta(milliseconds=300), "chunk_size": 50})


@pytest.fixture
def service(settings: Settings) -> Iterator[Service]:
    service = build(settings)
    yield service
    service.connections.close()


def test_the_stream_is_trimmed_up_to_the_first_entry_that_a_group_has_not_acknowledged(
    producer: Producer, service: Service
) -> None:
    added = producer.requests([f"r{number}" for number in range(1000)])
    stream = IntakeStream(service.connections, "me")
    stream.read_new(1)
    done = [entry.id for entry in stream.read_new(1000)[0]]
    stream.settle(done, [])
    upkeep = StreamUpkeep(service.connections)
    producer.redis.xgroup_create(STREAM, "other", id="0")
    assert upkeep.trim() == 0
    producer.redis.xreadgroup("other", "slow", {STREAM: ">"}, count=700)
    producer.redis.xack(STREAM, "other", *added[:500], *added[501:700])
    upkeep.trim()
    ((first, _),) = producer.redis.xrange(STREAM, count=1)
    assert 400 <= added.index(first) <= 500  # approximate: whole nodes of 100 entries
    producer.redis.xack(STREAM, "other", added[500])
    upkeep.trim()
    ((first, _),) = producer.redis.xrange(STREAM, count=1)
    assert 600 <= added.index(first) <= 700


def test_the_stream_is_trimmed_when_the_group_has_acknowledged_everything(producer: Producer, service: Service) -> None:
    producer.requests([f"r{number}" for number in range(500)])
    with listening(service):
        producer.wait_until_settled()
    StreamUpkeep(service.connections).trim()
    assert producer.redis.xlen(STREAM) <= 100
    producer.request("next")
    assert producer.unread() == 1


def test_trimming_without_a_stream_or_a_group_does_nothing(producer: Producer, service: Service) -> None:
    upkeep = StreamUpkeep(service.connections)
    assert upkeep.trim() == 0
    producer.request()
    assert upkeep.trim() == 0


def test_dead_consumers_are_removed_unless_they_have_pending_entries(producer: Producer, service: Service) -> None:
    producer.requests(["a", "b"])
    producer.redis.xgroup_create(STREAM, GROUP, id="0")
    producer.redis.xreadgroup(GROUP, "holds", {STREAM: ">"}, count=1)
    producer.redis.xgroup_createconsumer(STREAM, GROUP, "empty")
    upkeep = StreamUpkeep(service.connections)
    assert upkeep.remove_idle_consumers(timedelta(hours=1)) == 0
    assert upkeep.remove_idle_consumers(timedelta(0)) == 1
    assert [each["name"] for each in producer.redis.xinfo_consumers(STREAM, GROUP)] == ["holds"]


def test_a_listener_that_stops_leaves_no_consumer_behind(producer: Producer, service: Service) -> None:
    with listening(service):
        producer.request()
        producer.wait_until_settled()
    assert producer.redis.xinfo_consumers(STREAM, GROUP) == []


@pytest.mark.parametrize("ahead", ["9999999999999-0", f"{2**64 - 1}-{2**64 - 1}"])
def test_a_group_that_was_set_after_the_last_entry_reads_every_entry_once_more(
    producer: Producer, service: Service, ahead: str
) -> None:
    first = producer.request()
    with listening(service):
        producer.wait_until_settled()
    producer.redis.xgroup_setid(STREAM, GROUP, ahead)
    unread = producer.request()
    assert StreamUpkeep(service.connections).trim() == 0
    with listening(service):
        producer.wait_until_settled()
    found = [entry["requestId"] for entry in service.connections.database.snapshotrequests.find()]
    assert sorted(found) == [f"stream:{first}", f"stream:{unread}"]
