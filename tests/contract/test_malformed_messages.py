"""Malformed messages against a real worker: none ends it, none is lost, none is delivered twice."""

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from support.malformed import MISSING, deep, envelope, kinds, raw, text_body
from support.served import own_settings
from support.stack import Running, stack
from support.waiting import allowed, eventually
from worker.local.embedded import Servers
from worker.stores.events import MAX_REJECTION_BYTES
from worker.stores.wakeups import QUEUES

LIMITS = "should be an array of two, each null or a number from 1 to 3,600"
GARBAGE = {
    "no JSON": b"hello",
    "a number": b"5",
    "nested": deep(100_000).encode(),
    "three numbers": b"[1,2,3]",
    "not UTF-8": b"\xff\xfe",
    "no properties": json.dumps([{"body": "x"}, "", "snapshots"]).encode(),
    "no queue": json.dumps([envelope(), "", None]).encode(),
}


@pytest.fixture(scope="module")
def running(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A worker, which starts on a Redis whose hash of unacknowledged messages is full of garbage; and beat."""
    settings = own_settings(servers)
    with redis.Redis.from_url(settings.redis_url) as client:
        client.flushdb()
        client.hset("unacked", mapping=GARBAGE)
        client.zadd("unacked_index", dict.fromkeys((*GARBAGE, "without a message", b"\xff"), 1))
    with stack(settings, tmp_path_factory.mktemp("malformed")) as made:
        yield made
        made.database.client.drop_database(settings.mongo_database)


def rejected(running: Running) -> list[dict[str, Any]]:
    entries: Any = running.redis.xrange("snapshots:rejected")
    return [{name.decode(): value.decode() for name, value in fields.items()} for _, fields in entries]


def drained(running: Running) -> bool:
    left: Any = running.redis.hgetall("unacked")
    assert not left, f"unacknowledged: {str(left)[:2000]}"
    return not any(running.redis.llen(name) for name in QUEUES)


def test_garbage_among_unacknowledged_messages_is_recorded(running: Running) -> None:
    eventually(lambda: not running.redis.zcard("unacked_index"))
    reasons = [json.loads(entry["reason"])["details"]["errors"][0]["field"] for entry in rejected(running)]
    assert reasons.count("unacked") == len(GARBAGE)


@pytest.mark.parametrize(
    "queue", [QUEUES[0], *(pytest.param(queue, marks=pytest.mark.acceptance) for queue in QUEUES[1:])]
)
def test_malformed_messages_are_recorded_once_while_requests_complete(running: Running, queue: str) -> None:
    pid, before = running.worker.pid, len(rejected(running))
    table = kinds(queue)
    keys = running.bench.chunk(len(table))
    slowest, limit = 0.0, allowed(6)
    for key, message in zip(keys, table.values(), strict=True):
        running.redis.lpush(queue, message)
        began = time.monotonic()
        running.publish([key], queue)
        running.finished([key], 6)
        slowest = max(slowest, time.monotonic() - began)
    eventually(lambda: drained(running))
    assert len(rejected(running)) - before == len(table)
    assert running.worker.running
    assert running.worker.pid == pid
    assert "Connection to broker lost" not in running.logs()
    assert slowest < limit


def test_request_behind_many_malformed_messages_is_done_soon(running: Running) -> None:
    count, before = 30_000, len(rejected(running))
    running.redis.lpush("snapshots", *(b'{"number": %d}' % number for number in range(count)))
    (key,) = running.bench.chunk(1)
    began, limit = time.monotonic(), allowed(15)
    running.publish([key])
    running.finished([key], 60)
    print(f"after {time.monotonic() - began:.1f} s")
    assert time.monotonic() - began < limit, "each one takes a millisecond if it goes through Celery"
    assert len(rejected(running)) - before == count
    running.redis.delete("snapshots:rejected")


def test_rejected_message_is_recorded_with_its_reason_and_cut_at_a_megabyte(running: Running) -> None:
    before = len(rejected(running))
    running.redis.lpush("snapshots", raw(envelope(headers={"id": "one", "timelimit": [1]})), b"\xff" * 3_000_000)
    eventually(lambda: len(rejected(running)) == before + 2)
    first, second = rejected(running)[-2:]
    assert first["origin"] == "task:one"
    assert json.loads(first["reason"]) == {
        "code": "invalid_message",
        "message": f"The Celery message is not valid: headers.timelimit: {LIMITS}",
        "details": {"errors": [{"field": "headers.timelimit", "message": LIMITS}]},
    }
    assert json.loads(json.loads(first["entry"])["message"])["headers"]["timelimit"] == [1]
    assert json.loads(second["entry"])["bytes"] == "3000000"  # in a truncated entry every value is text
    assert 200_000 < len(second["entry"]) <= MAX_REJECTION_BYTES


@dataclass(frozen=True)
class Nested:
    """A value that is nested too deeply for Hypothesis to print it."""

    levels: int


@dataclass(frozen=True)
class Long:
    """A text that is too long for Hypothesis to print it."""

    length: int


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.just(MISSING),
    st.just(10**400),
    st.sampled_from([[], [1], [[1]], {}, {"a": 1}, ["a", "b"]]),
    st.integers(90, 900).map(Nested),
    st.integers(200, 20_000).map(Long),
)
PLACES = [
    *(("headers", name) for name in envelope()["headers"]),
    *(("headers", name) for name in ("update", "compression", "headers", "other", "stamp", "redelivered")),
    *(("properties", name) for name in envelope()["properties"]),
    *(("message", name) for name in ("body", "content-type", "content-encoding", "headers", "properties")),
    *(("body", place) for place in range(4)),
]


@st.composite
def mutated(draw: st.DrawFn) -> tuple[tuple[str, Any], Any, str]:
    return draw(st.sampled_from(PLACES)), draw(ODD), draw(st.sampled_from(QUEUES))


def mutate(ids: dict[str, str], number: int, where: tuple[str, Any], value: Any, queue: str) -> bytes:
    part, name = where
    if isinstance(value, Nested):
        value = json.loads(deep(value.levels))
    elif isinstance(value, Long):
        value = "x" * value.length
    request = {**ids, "requestId": f"f{number}"}
    body: list[Any] = [[request], {}, {}]
    if part == "body":
        body[name : name + 1] = [] if value is MISSING else [value]
    changes = {part: {name: value}} if part in ("headers", "properties") else {}
    message = envelope(queue=queue, body=text_body(json.dumps(body)), **changes)
    if part == "message":
        message[name] = value
        message = {key: kept for key, kept in message.items() if kept is not MISSING}
    return raw(message)


numbers = iter(range(1_000_000))


@examples(
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "30")),
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),  # shrinking would run the worker for minutes
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(st.lists(mutated(), min_size=10, max_size=30))
def test_mutated_messages_are_processed_or_recorded(running: Running, mutations: list[Any]) -> None:
    pid = running.worker.pid
    ledger = running.database.snapshotrequests
    contact = running.bench.contact()
    running.bench.conversation(contact)
    ids = {"organizationId": str(running.bench.organization), "contactId": str(contact)}

    def settled() -> int:
        return int(running.redis.xlen("snapshots:rejected")) + ledger.count_documents({"trigger": "task"})

    before = settled()
    for where, value, queue in mutations:
        running.redis.lpush(queue, mutate(ids, next(numbers), where, value, queue))
    (key,) = running.bench.chunk(1)
    running.publish([key])
    eventually(lambda: settled() - before >= len(mutations) or not running.worker.running, 20)
    assert running.worker.running
    running.finished([key], 20)
    eventually(lambda: drained(running), 20)
    assert settled() - before == len(mutations)
    assert running.worker.pid == pid
