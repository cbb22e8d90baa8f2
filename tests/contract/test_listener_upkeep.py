"""The intake stream does not grow for ever, and forgets listeners that are gone."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from support.intake import GROUP, STREAM, Producer, listening
from worker.bootstrap import build
from worker.intake.stream import IntakeStream
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


def test_the_stream_is_trimmed_below_what_any_group_owes_and_no_further(producer: Producer, service: Service) -> None:
    added = producer.requests([f"r{number}" for number in range(1000)])
    stream = IntakeStream(service.connections, "me")
    stream.read_new(1)
    done = [each.id for each in stream.read_new(1000)]
    stream.settle(done, [])
    producer.redis.xgroup_create(STREAM, "other", id="0")
    assert stream.trim() == 0
    producer.redis.xreadgroup("other", "slow", {STREAM: ">"}, count=700)
    producer.redis.xack(STREAM, "other", *added[:500], *added[501:700])
    stream.trim()
    ((first, _),) = producer.redis.xrange(STREAM, count=1)
    assert 400 <= added.index(first) <= 500  # approximate: whole nodes of 100 entries
    producer.redis.xack(STREAM, "other", added[500])
    stream.trim()
    ((first, _),) = producer.redis.xrange(STREAM, count=1)
    assert 600 <= added.index(first) <= 700


def test_what_is_trimmed_was_all_acknowledged_when_a_group_has_read_everything(
    producer: Producer, service: Service
) -> None:
    producer.requests([f"r{number}" for number in range(500)])
    with listening(service):
        producer.wait_until_settled()
    stream = IntakeStream(service.connections, "me")
    stream.trim()
    assert producer.redis.xlen(STREAM) <= 100
    producer.request("next")
    assert producer.unread() == 1


def test_trimming_without_a_stream_or_a_group_does_nothing(producer: Producer, service: Service) -> None:
    stream = IntakeStream(service.connections, "me")
    assert stream.trim() == 0
    producer.request()
    assert stream.trim() == 0


def test_dead_consumers_are_removed_unless_they_have_pending_entries(producer: Producer, service: Service) -> None:
    producer.requests(["a", "b"])
    producer.redis.xgroup_create(STREAM, GROUP, id="0")
    producer.redis.xreadgroup(GROUP, "holds", {STREAM: ">"}, count=1)
    producer.redis.xgroup_createconsumer(STREAM, GROUP, "empty")
    stream = IntakeStream(service.connections, "me")
    assert stream.forget_consumers(timedelta(hours=1)) == 0
    assert stream.forget_consumers(timedelta(0)) == 1
    assert [each["name"] for each in producer.redis.xinfo_consumers(STREAM, GROUP)] == ["holds"]


def test_a_listener_that_stops_leaves_no_consumer_behind(producer: Producer, service: Service) -> None:
    with listening(service):
        producer.request()
        producer.wait_until_settled()
    assert producer.redis.xinfo_consumers(STREAM, GROUP) == []
