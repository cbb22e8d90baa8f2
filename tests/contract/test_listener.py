"""The listener against real servers, in this process: accepting, rejecting, retrying, claiming, trimming."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from bson import ObjectId
from prometheus_client import REGISTRY

from support.intake import GROUP, REJECTED, STREAM, Producer, listening
from support.waiting import eventually
from worker.bootstrap import build
from worker.domain.ledger_entry import LedgerEntry
from worker.errors import InvalidRequest
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


def entries(service: Service) -> list[LedgerEntry]:
    return list(service.ledger.collection.find().sort("_id", 1))


def published(producer: Producer) -> list[str]:
    return [key for chunks in producer.messages().values() for chunk in chunks for key in chunk]


def test_a_request_is_written_to_the_ledger_enqueued_and_acknowledged(producer: Producer, service: Service) -> None:
    with listening(service):
        added = producer.request(notes="good")
        producer.wait_until_settled()
    (entry,) = entries(service)
    assert entry["requestId"] == f"stream:{added}"
    assert entry["trigger"] == "stream"
    assert entry["notes"] == "good"
    assert entry["queue"] == "snapshots"
    assert producer.messages() == {"snapshots": [[str(entry["_id"])]], "snapshots.bulk": []}


def test_entries_added_before_the_first_listener_are_accepted(producer: Producer, service: Service) -> None:
    producer.requests(["a", "b"])
    with listening(service):
        producer.wait_until_settled()
    assert [each["requestId"] for each in entries(service)] == ["a", "b"]


def test_a_backlog_is_enqueued_in_chunks_on_the_bulk_queue(producer: Producer, service: Service) -> None:
    producer.requests([f"r{number}" for number in range(400)])
    with listening(service):
        producer.wait_until_settled()
    messages = producer.messages()
    assert messages["snapshots"] == []
    sizes = [len(chunk) for chunk in messages["snapshots.bulk"]]
    assert sum(sizes) == 400
    assert max(sizes) == 50
    assert len(sizes) <= 12
    assert {each["queue"] for each in entries(service)} == {"snapshots.bulk"}


def test_the_same_request_twice_is_one(producer: Producer, service: Service) -> None:
    body = producer.body("order-17")
    with listening(service):
        for _ in range(3):
            producer.add("snapshot.requested", body)
        producer.wait_until_settled()
        producer.add("snapshot.requested", body)
        producer.wait_until_settled()
    (entry,) = entries(service)
    assert published(producer) == [str(entry["_id"])]
    assert producer.rejected() == {}


def test_the_same_id_with_another_body_is_rejected_and_its_neighbours_are_accepted(
    producer: Producer, service: Service
) -> None:
    producer.requests(["a", "b"])
    other = producer.request("a")
    producer.requests(["c"])
    with listening(service):
        producer.wait_until_settled()
    assert sorted(each["requestId"] for each in entries(service)) == ["a", "b", "c"]
    rejected = producer.rejected()
    assert list(rejected) == [other]
    assert rejected[other]["reason"]["code"] == "request_id_conflict"


def test_a_broken_entry_is_rejected_with_its_reason_and_its_fields(producer: Producer, service: Service) -> None:
    broken = producer.redis.xadd(STREAM, {"type": "snapshot.requested", "data": '{"notes": 5}', "more": "é"})
    producer.request("good")
    with listening(service):
        producer.wait_until_settled()
    assert [each["requestId"] for each in entries(service)] == ["good"]
    rejected = producer.rejected()[broken]
    assert rejected["reason"]["code"] == "invalid_request"
    faults = {each["field"]: each["message"] for each in rejected["reason"]["details"]["errors"]}
    assert faults["organizationId"] == "is required"
    assert faults["notes"].startswith("should be a valid string")
    assert rejected["entry"] == {"type": "snapshot.requested", "data": '{"notes": 5}', "more": "é"}


def test_an_entry_stays_pending_while_redis_refuses_its_rejection(producer: Producer, service: Service) -> None:
    producer.redis.set(REJECTED, "no stream")  # XADD answers WRONGTYPE, as it would OOM
    broken = producer.add("snapshot.requested", "{")
    with listening(service):
        producer.request("good")
        eventually(lambda: len(entries(service)) == 1)
        eventually(lambda: producer.pending() == 1)
        producer.redis.delete(REJECTED)
        producer.wait_until_settled()
    assert list(producer.rejected()) == [broken]


def test_pending_entries_of_a_dead_listener_are_claimed(producer: Producer, service: Service) -> None:
    producer.requests([f"r{number}" for number in range(250)])
    producer.redis.xgroup_create(STREAM, GROUP, id="0")
    producer.redis.xreadgroup(GROUP, "dead", {STREAM: ">"}, count=250)
    with listening(service):
        producer.wait_until_settled()
    assert len(entries(service)) == 250
    assert len(set(published(producer))) == 250


def test_pending_entries_that_were_trimmed_are_counted_as_lost(producer: Producer, service: Service) -> None:
    before = REGISTRY.get_sample_value("snapshots_intake_lost_total") or 0
    producer.requests(["lost", "kept"])
    producer.redis.xgroup_create(STREAM, GROUP, id="0")
    ((_, ((first, _), _)),) = producer.redis.xreadgroup(GROUP, "dead", {STREAM: ">"})
    producer.redis.xdel(STREAM, first)
    with listening(service):
        producer.wait_until_settled()
    assert [each["requestId"] for each in entries(service)] == ["kept"]
    assert REGISTRY.get_sample_value("snapshots_intake_lost_total") == before + 1


def test_the_group_is_recreated_at_the_beginning_after_a_flush(producer: Producer, service: Service) -> None:
    with listening(service):
        producer.request("before")
        producer.wait_until_settled()
        producer.redis.flushdb()
        producer.request("after")
        eventually(lambda: len(entries(service)) == 2)
        producer.wait_until_settled()


def test_two_listeners_accept_each_entry_once(producer: Producer, service: Service) -> None:
    with listening(service, count=2):
        for start in range(0, 1000, 50):
            producer.requests([f"r{number}" for number in range(start, start + 50)])
            producer.add("snapshot.requested", "[]")
        producer.wait_until_settled()
    assert len(entries(service)) == 1000
    assert sorted(published(producer)) == sorted(str(each["_id"]) for each in entries(service))
    assert len(producer.rejected()) == 20


def test_an_entry_that_two_listeners_hold_is_rejected_once(producer: Producer, service: Service) -> None:
    producer.add("snapshot.requested", "{")
    first, second = (IntakeStream(service.connections, name) for name in ("first", "second"))
    assert first.read_new(1) == ([], 0)  # the group did not exist yet
    (entry,), _ = first.read_new(1)
    _, (claimed,), _ = second.claim("0-0", 10, timedelta(0))
    (same,) = second.fetch([claimed])
    fault = InvalidRequest([{"field": "data", "message": "should be JSON"}])
    assert first.settle([], [(entry, fault)]) == [True]
    assert second.settle([], [(same, fault)]) == [False]
    assert len(producer.rejected()) == 1


# --- closings ---------------------------------------------------------------------------------------------


def test_the_request_id_of_a_closing_contains_the_date_in_the_database(producer: Producer, service: Service) -> None:
    conversation, contact = ObjectId(), ObjectId()
    ids = {"organizationId": producer.organization, "contactId": contact}
    resolved_at = datetime(2026, 5, 18, 14, 30, tzinfo=UTC)
    database = service.connections.database
    database.conversations.insert_one({"_id": conversation, **ids, "isResolved": True, "resolvedAt": resolved_at})
    database.messages.insert_many({**ids, "conversationId": conversation, "content": "Hello"} for _ in range(2))
    with listening(service):
        for _ in range(2):
            data = {"organizationId": str(producer.organization), "conversationId": str(conversation)}
            producer.add("conversation.resolved", data)
        producer.wait_until_settled()
    (entry,) = entries(service)
    assert entry["requestId"] == f"resolved:{conversation}:1779114600000"
    assert entry["trigger"] == "conversation.resolved"
    assert published(producer) == [str(entry["_id"])]


def test_an_unresolved_closing_stays_pending_delays_nothing_and_is_rejected_after_a_minute(
    producer: Producer, service: Service
) -> None:
    seconds, _ = producer.redis.time()
    data = json.dumps({"organizationId": str(producer.organization), "conversationId": str(ObjectId())})
    fields = {"type": "conversation.resolved", "data": data}
    # By Redis's clock, so that the test need not wait for a minute.
    old = producer.redis.xadd(STREAM, fields, id=f"{(seconds - 57) * 1000}-0")
    young = producer.redis.xadd(STREAM, fields)
    with listening(service):
        producer.request("good")
        eventually(lambda: len(entries(service)) == 1)
        eventually(lambda: list(producer.rejected()) == [old], 45)
        assert producer.rejected()[old]["reason"]["code"] == "not_resolved_yet"
        assert [each["message_id"] for each in producer.redis.xpending_range(STREAM, GROUP, "-", "+", 10)] == [young]
