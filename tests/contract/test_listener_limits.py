"""Entries that are too large, too slow or chosen to be odd do not stop the listener, and are rejected."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pymongo
import pytest
import redis
from bson import ObjectId

from support.faults import failing
from support.faulty_json import SHAPES, faulty_request
from support.intake import GROUP, STREAM, Producer, listener_process, listeners, listening
from support.waiting import eventually
from worker.bootstrap import build
from worker.intake.stream import BATCH_BYTES, IntakeStream
from worker.service import Service
from worker.settings import Settings


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"listener_idle": timedelta(milliseconds=300)})


@pytest.fixture
def service(settings: Settings) -> Iterator[Service]:
    service = build(settings)
    yield service
    service.connections.close()


def accepted(service: Service) -> list[str]:
    return sorted(entry["requestId"] for entry in service.ledger.collection.find())


def fault(rejected: dict[str, Any]) -> dict[str, str]:
    """Returns the only fault of a rejected entry."""
    (only,) = rejected["reason"]["details"]["errors"]
    return dict(only)


def test_entries_over_the_size_limit_are_rejected_with_a_truncated_copy(producer: Producer, service: Service) -> None:
    large = producer.add("snapshot.requested", '{"notes": "' + "x" * 4_000_000)
    many_fields = producer.redis.xadd(STREAM, {"type": "snapshot.requested"} | {f"f{n}": "1" for n in range(50_000)})
    producer.request("good")
    with listening(service):
        producer.wait_until_settled()
    assert accepted(service) == ["good"]
    rejected = producer.rejected()
    assert rejected.keys() == {large, many_fields}
    assert fault(rejected[large])["field"] == "entry"
    assert fault(rejected[large])["message"].startswith("should have at most 1048576 bytes, but has 40000")
    assert rejected[large]["entry"]["data"].startswith('{"notes": "xxx')
    assert fault(rejected[many_fields])["message"] == "should have at most 100 fields, but has 50001"
    assert len(json.dumps(rejected)) < 100_000


def test_a_listener_that_waits_receives_a_large_entry_and_rejects_it(producer: Producer, service: Service) -> None:
    with listening(service):
        eventually(lambda: producer.redis.exists(STREAM))
        large = producer.add("snapshot.requested", "[" * 2_000_000)
        eventually(lambda: list(producer.rejected()) == [large])


@pytest.mark.parametrize("shape", SHAPES)
def test_a_faulty_entry_of_1_mb_is_rejected_and_its_neighbours_are_accepted(
    producer: Producer, service: Service, shape: str
) -> None:
    producer.request("before")
    faulty = producer.add("snapshot.requested", faulty_request(shape))
    producer.request("after")
    with listening(service):
        producer.wait_until_settled()
    assert accepted(service) == ["after", "before"]
    assert list(producer.rejected()) == [faulty]


def test_a_batch_is_limited_in_bytes(producer: Producer, service: Service) -> None:
    stream = IntakeStream(service.connections, "me")
    stream.read_new(1)  # creates the group
    added = [producer.request(f"r{number}", notes="x" * 900_000) for number in range(12)]
    batches = []
    while entries := stream.read_new(100)[0]:
        batches.append([entry.id for entry in entries])
    assert [key for batch in batches for key in batch] == added
    assert all(len(batch) <= BATCH_BYTES // 900_000 + 1 for batch in batches)
    assert stream.pending_ids("0", 100) == stream.pending_ids("0", 5) + stream.pending_ids(added[4], 100) == added
    pages, left = [], added
    while left:
        pages.append(len(stream.fetch_again(left)))
        left = left[pages[-1] :]
    assert sum(pages) == 12
    assert max(pages) <= BATCH_BYTES // 900_000 + 1


def test_an_entry_that_three_listeners_did_not_finish_is_rejected(producer: Producer, service: Service) -> None:
    """Its listeners are killed: the first after it was delivered, the others after they began."""
    poison, innocent = producer.requests(["poison", "innocent"])
    producer.redis.xgroup_create(STREAM, GROUP, id="0")
    producer.redis.xreadgroup(GROUP, "first", {STREAM: ">"})
    for name in ("second", "third"):
        stream = IntakeStream(service.connections, name)
        stream.claim("0-0", 10, timedelta(0))
        stream.begin(poison)
    with listening(service):
        producer.wait_until_settled()
    assert accepted(service) == ["innocent"]
    rejected = producer.rejected()
    assert rejected.keys() == {poison}
    assert rejected[poison]["reason"]["code"] == "listener_lost"
    assert json.loads(rejected[poison]["entry"]["data"])["requestId"] == "poison"
    assert innocent not in rejected
    assert producer.redis.hgetall(f"{STREAM}:starts") == {}


def test_an_entry_that_the_third_listener_finishes_is_accepted(producer: Producer, service: Service) -> None:
    (entry,) = producer.requests(["r"])
    producer.redis.xgroup_create(STREAM, GROUP, id="0")
    producer.redis.xreadgroup(GROUP, "first", {STREAM: ">"})
    second = IntakeStream(service.connections, "second")
    second.claim("0-0", 10, timedelta(0))
    second.begin(entry)
    with listening(service):
        producer.wait_until_settled()
    assert accepted(service) == ["r"]
    assert producer.redis.hgetall(f"{STREAM}:starts") == {}


def test_an_entry_that_is_tried_again_is_not_claimed_by_another_listener(producer: Producer, service: Service) -> None:
    first, second = (IntakeStream(service.connections, name) for name in ("first", "second"))
    first.read_new(1)  # creates the group
    entry = producer.request()
    first.read_new(1)

    def idle() -> int:
        (pending,) = producer.redis.xpending_range(STREAM, GROUP, "-", "+", 10)
        return int(pending["time_since_delivered"])

    eventually(lambda: idle() > 500)
    assert [each.id for each in first.fetch_again(first.pending_ids("0", 10))] == [entry]
    assert idle() < 400
    assert second.claim("0-0", 10, timedelta(milliseconds=500)) == ("0-0", [], [])


def test_an_unresolved_closing_with_an_id_in_the_future_is_rejected(producer: Producer, service: Service) -> None:
    """Its age is unknown, so it would stay pending until the year 2286."""
    data = json.dumps({"organizationId": str(producer.organization), "conversationId": str(ObjectId())})
    future = "9999999999999-0"
    producer.redis.xadd(STREAM, {"type": "conversation.resolved", "data": data}, id=future)
    request = producer.request()  # Redis gives it an id in the future too
    with listening(service):
        producer.wait_until_settled()
    assert request.startswith("9999999999999-")
    assert accepted(service) == [f"stream:{request}"]
    assert producer.rejected()[future]["reason"]["code"] == "not_resolved_yet"


@pytest.mark.acceptance
def test_an_entry_whose_listener_is_killed_three_times_is_rejected(
    producer: Producer, service: Service, settings: Settings, mongo_client: pymongo.MongoClient[Any], tmp_path: Path
) -> None:
    """Each listener is killed with SIGKILL while MongoDB withholds its answer to the insert."""
    child = listener_process(settings, tmp_path / "listener.log", {"SNAPSHOTS_LISTENER_IDLE": "0.5s"})
    starts = f"{STREAM}:starts"

    def delivered() -> bool:
        try:
            return bool(producer.redis.xpending_range(STREAM, GROUP, "-", "+", 10))
        except redis.ResponseError:  # the listener has yet to create the group
            return False

    with listeners(child):
        with failing(mongo_client, ["insert"], blockConnection=True, blockTimeMS=20_000):
            poison = producer.request("poison")
            eventually(delivered)
            for unfinished in ("1", "2"):
                child.restart()
                eventually(lambda count=unfinished: producer.redis.hget(starts, poison) == count, 45)  # type: ignore[misc]
            child.kill()
        child.restart()
        producer.request("good")
        producer.wait_until_settled(45)
    assert accepted(service) == ["good"]
    assert {key: each["reason"]["code"] for key, each in producer.rejected().items()} == {poison: "listener_lost"}
    assert not producer.redis.exists(starts)
