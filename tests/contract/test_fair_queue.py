"""One organization's flood of Celery messages does not delay the requests of the others."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId
from structlog.testing import capture_logs

from support.intake import GROUP, STREAM, Producer, listener_process, listeners
from support.ledger import Bench
from support.malformed import body_of, envelope, raw
from support.stack import Running, stack
from support.waiting import eventually
from worker.celery_support import fair_queue
from worker.celery_support.fair_queue import divert_floods
from worker.celery_support.oldest_messages import MAX_MESSAGES
from worker.settings import Settings, load
from worker.stores.heartbeat import count_listeners

INTERACTIVE, BULK = "snapshots", "snapshots.bulk"
A, B = ObjectId(), ObjectId()


def request(organization: object, request_id: str, **fields: Any) -> bytes:
    body = {"organizationId": str(organization), "contactId": str(ObjectId()), "requestId": request_id, **fields}
    return raw(envelope("snapshots.request", [body]))


def push(client: Any, *messages: bytes) -> None:
    """Push messages as producers do, the first one first."""
    with client.pipeline(transaction=False) as pipeline:
        for message in messages:
            pipeline.lpush(INTERACTIVE, message)
        pipeline.execute()


def divert(client: Any) -> int:
    return divert_floods(client, load(max_entry_bytes=4096))


def read_as_a_listener(client: Any) -> None:
    """Make the intake group look read."""
    client.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
    client.xreadgroup(GROUP, "one", {STREAM: ">"}, 1)


def messages(client: Any, queue: str) -> list[bytes]:
    """The messages in a queue, the oldest one first."""
    return list(reversed(client.lrange(queue, 0, -1)))


def test_without_a_listener_a_flood_moves_to_the_bulk_queue_and_the_messages_of_others_stay(bench: Bench) -> None:
    client: Any = bench.connections.redis
    flood = [request(A, f"a{number}") for number in range(2 * MAX_MESSAGES)]
    closing = raw(envelope("conversations.resolved", [{"organizationId": str(B), "conversationId": str(ObjectId())}]))
    others = [request(B, "b0"), raw(envelope("snapshots.create", [[str(ObjectId())]])), closing, b"no message"]
    push(client, *flood[:50], *others, *flood[50:])
    moved = divert(client)
    assert moved > len(flood) - 100
    assert messages(client, INTERACTIVE) == others + flood[moved:]
    assert messages(client, BULK) == flood[:moved]


def test_requests_without_an_organization_are_a_flood_of_their_own(bench: Bench) -> None:
    client: Any = bench.connections.redis
    bodies: list[list[Any]] = [[], [5], [{}], [{"organizationId": [1]}]]
    faulty = [raw(envelope("snapshots.request", args)) for args in bodies] * 50
    push(client, *faulty, request(B, "b0"))
    assert divert(client) == len(faulty)
    assert len(messages(client, INTERACTIVE)) == 1


def test_flood_is_known_by_its_organization_however_it_is_written(bench: Bench) -> None:
    client: Any = bench.connections.redis
    spelt = [str(A).upper()[:number] + str(A)[number:] for number in range(25)] * 8
    push(client, *(request(each, f"a{number}") for number, each in enumerate(spelt)), request(B, "b0"))
    assert divert(client) == len(spelt)
    assert len(messages(client, INTERACTIVE)) == 1


def test_flood_that_an_error_of_our_own_keeps_from_the_stream_goes_to_the_bulk_queue_and_is_logged_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    client: Any = bench.connections.redis
    read_as_a_listener(client)
    flood = [request(A, f"a{number}") for number in range(120)]
    push(client, *flood)

    def fail(_: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(fair_queue, "read_traceparent", fail)
    fair_queue._log_once.cache_clear()
    with capture_logs() as records:
        assert divert(client) > 100
    assert client.llen(BULK) > 100
    (record,) = records
    assert (record["event"], record["reason"]) == ("message_not_converted", "ZeroDivisionError")


def test_few_messages_stay(bench: Bench) -> None:
    client: Any = bench.connections.redis
    push(client, *(request(A, f"a{number}") for number in range(99)))
    assert divert(client) == 0
    assert client.llen(INTERACTIVE) == 99


def test_flood_of_large_messages_moves_too(bench: Bench) -> None:
    """A step reads 4 MB, in which there are fewer than a hundred of them."""
    client: Any = bench.connections.redis
    read_as_a_listener(client)
    notes = "x" * 90_000
    push(client, *(request(A, f"a{number}", notes=notes) for number in range(150)), request(B, "b0", notes=notes))
    last = messages(client, INTERACTIVE)[-1]
    eventually(lambda: divert_floods(client, load()) == 0)
    assert client.xlen(STREAM) > 50
    left = messages(client, INTERACTIVE)
    assert len(left) < 100
    assert left[-1] == last


@pytest.mark.parametrize("queue", ["snapshots.maintenance", "snapshots.exports"])
def test_queue_that_is_not_for_producers_is_cleared_of_their_messages(bench: Bench, queue: str) -> None:
    client: Any = bench.connections.redis
    read_as_a_listener(client)
    sweep = raw(envelope("snapshots.sweep"))
    client.lpush(queue, *(request(A, f"a{number}") for number in range(20)), sweep, request(B, "b0"))
    assert divert_floods(client, load(), queue) == 21
    assert client.xlen(STREAM) == 21
    assert messages(client, queue) == [sweep]


def test_flood_moves_to_the_intake_stream_in_its_order(bench: Bench) -> None:
    client: Any = bench.connections.redis
    read_as_a_listener(client)
    flood = [request(A, f"a{number}") for number in range(MAX_MESSAGES)]
    push(client, *flood, request(B, "b0"))
    assert divert(client) == len(flood)
    entries = [fields for _, fields in client.xrange(STREAM)]
    names = [json.loads(fields[b"data"])["requestId"] for fields in entries]
    assert names == [f"a{number}" for number in range(MAX_MESSAGES)]
    assert len(messages(client, INTERACTIVE)) == 1
    assert messages(client, BULK) == []


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param({"headers": {"eta": "2026-01-01T00:00:00"}}, id="a delay"),
        pytest.param({"headers": {"expires": "2096-01-01T00:00:00"}}, id="an expiry"),
        pytest.param({"args": [{"organizationId": {"__type__": "uuid", "__value__": "0" * 32}}]}, id="another type"),
        pytest.param({"headers": {"retries": -1}}, id="a fault"),
        pytest.param({"args": [{"organizationId": str(A)}, 5]}, id="two arguments"),
        pytest.param({"body": body_of([], {"organizationId": str(A)})}, id="a named argument"),
        pytest.param({"args": [{"organizationId": str(A), "notes": "x" * 5000}]}, id="too large"),
    ],
)
def test_messages_that_only_celery_understands_move_to_the_bulk_queue(bench: Bench, odd: dict[str, Any]) -> None:
    client: Any = bench.connections.redis
    read_as_a_listener(client)
    message = raw(envelope("snapshots.request", **{"args": [{"organizationId": str(A)}], **odd}))
    push(client, *[message] * 120)
    eventually(lambda: divert(client) == 0)
    assert client.xlen(STREAM) == 0
    assert set(messages(client, BULK)) == {message}


def test_listener_accepts_rejects_and_identifies_messages_as_their_task_does(
    bench: Bench, producer: Producer, tmp_path: Path
) -> None:
    client: Any = bench.connections.redis
    read_as_a_listener(client)
    contact = bench.contact()
    bench.conversation(contact)
    body = {"organizationId": str(bench.organization), "contactId": str(contact)}
    trace = f"00-{'a' * 32}-{'b' * 16}-01"
    valid = [envelope("snapshots.request", [body], headers={"traceparent": trace}) for _ in range(200)]
    unknown_field = [envelope("snapshots.request", [{**body, "unknown": 1}]) for _ in range(100)]
    long_id = [envelope("snapshots.request", [body], headers={"id": f"{number:0250}"}) for number in range(100)]
    push(client, *map(raw, (*valid, *unknown_field, *long_id)))
    assert divert(client) == 400
    with listeners(listener_process(bench.settings, tmp_path / "listener.log")):
        producer.wait_until_settled()
    accepted = {
        entry["requestId"]: entry
        for entry in bench.service.ledger.collection.find({"organizationId": bench.organization})
    }
    assert accepted.keys() == {f"task:{each['headers']['id']}" for each in valid}
    assert {entry["trigger"] for entry in accepted.values()} == {"task"}
    assert {entry["traceparent"] for entry in accepted.values()} == {trace}
    rejected = producer.rejected()
    assert rejected.keys() == {f"task:{each['headers']['id']}" for each in (*unknown_field, *long_id)}
    one = rejected[f"task:{unknown_field[0]['headers']['id']}"]
    assert one["entry"] == {"args": [{**body, "unknown": 1}], "kwargs": {}}
    assert one["reason"]["details"]["errors"][0]["field"] == "unknown"


@pytest.fixture
def running(settings: Settings, tmp_path: Any) -> Iterator[Running]:
    """A worker and beat."""
    with stack(settings, tmp_path) as made:
        yield made


def test_flood_is_accepted_by_a_listener_and_each_request_is_done_once(running: Running, tmp_path: Path) -> None:
    bench, ledger = running.bench, running.database.snapshotrequests
    contact = bench.contact()
    bench.conversation(contact)
    body = {"organizationId": str(bench.organization), "contactId": str(contact)}
    flood = [raw(envelope("snapshots.request", [body])) for _ in range(2000)]
    with listeners(listener_process(bench.settings, tmp_path / "listener.log")):
        eventually(lambda: count_listeners(running.redis, STREAM, GROUP))
        push(running.redis, *flood, *flood[-50:])  # the last ones twice: to the stream, and to tasks or the stream
        done = {"organizationId": bench.organization, "trigger": "task", "status": "completed"}
        eventually(lambda: ledger.count_documents(done) == len(flood), 60, 0.1)
        eventually(lambda: not any(running.redis.llen(name) for name in (INTERACTIVE, BULK)), 60)
    added: Any = running.redis.xinfo_stream(STREAM)
    assert added["entries-added"] > len(flood) / 2
    assert running.database.trainingsnapshots.count_documents({"organizationId": bench.organization}) == len(flood)
    assert ledger.count_documents({}) == len(flood)
    assert running.redis.xlen("snapshots:rejected") == 0


def test_sweep_does_not_wait_for_requests_in_its_queue(running: Running) -> None:
    (key,) = running.bench.chunk(1)
    flood = [request(running.bench.organization, f"a{number}") for number in range(3000)]
    running.redis.lpush("snapshots.maintenance", *flood)
    running.bench.change([key], enqueuedAt=running.bench.ago(minutes=5))  # its wake-up is lost
    running.finished([key], 45)
    assert running.redis.llen(BULK)  # they are not done yet


def test_requests_with_a_countdown_wait_in_the_ledger(running: Running) -> None:
    """Celery would fetch them all, and then take nothing else until they are done."""
    bench, ledger = running.bench, running.database.snapshotrequests
    contact = bench.contact()
    bench.conversation(contact)
    body = {"organizationId": str(bench.organization), "contactId": str(contact)}
    later: list[dict[str, Any]] = [{"args": [body], "queue": INTERACTIVE, "countdown": 600} for _ in range(20)]
    soon: dict[str, Any] = {"args": [body], "queue": INTERACTIVE, "countdown": 8}
    for each in (*later, soon):
        running.app.send_task("snapshots.request", ignore_result=True, **each)
    waiting = {"organizationId": bench.organization, "notBefore": {"$ne": None}}
    eventually(lambda: ledger.count_documents(waiting) >= 20, 30)
    eventually(lambda: running.redis.hlen("unacked") == 0)
    done = {"organizationId": bench.organization, "status": "completed"}
    eventually(lambda: ledger.count_documents(done) == 1, 30)
    (entry,) = ledger.find(done)
    assert entry["dueAt"] - entry["acceptedAt"] > timedelta(seconds=2)
    assert entry["finishedAt"] >= entry["dueAt"]
    assert ledger.count_documents(waiting) == 20


def test_requests_behind_a_flood_of_celery_messages_are_done_long_before_its_end(running: Running) -> None:
    bench, ledger = running.bench, running.database.snapshotrequests
    contact = bench.contact()
    bench.conversation(contact)
    flood, accepted = 3000, {"organizationId": A}
    (key,) = bench.chunk(1)
    push(running.redis, *(request(A, f"a{number}") for number in range(flood)))
    push(running.redis, request(bench.organization, "b0", contactId=str(contact)))
    running.publish([key])
    running.finished([key], 60)
    eventually(
        lambda: ledger.find_one({"organizationId": bench.organization, "requestId": "b0", "status": "completed"})
    )
    assert ledger.count_documents(accepted) < flood / 2
    assert "messages_diverted" in running.logs()
    assert ledger.find_one({**accepted, "queue": BULK})
    for each in messages(running.redis, BULK):
        assert json.loads(each)["headers"]["task"] in {"snapshots.request", "snapshots.create"}
