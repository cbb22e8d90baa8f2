"""Malformed messages while Redis fails or the worker is killed, and malformed control messages and events."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from support.dropping import Forwarder, forwarder_to
from support.malformed import deep, envelope, raw
from support.served import own_settings
from support.stack import Running, stack
from support.waiting import eventually
from worker.api.readiness import RedisProbe
from worker.local.embedded import Servers


@pytest.fixture(scope="module")
def line(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Forwarder, Running]]:
    """A worker whose connections to Redis lead through a forwarder; and beat."""
    settings = own_settings(servers)
    with (
        forwarder_to(settings.redis_url) as (forwarder, url),
        stack(settings.model_copy(update={"redis_url": url}), tmp_path_factory.mktemp("faults")) as made,
    ):
        yield forwarder, made
        made.database.client.drop_database(settings.mongo_database)


def texts(running: Running) -> list[str]:
    """The rejected messages, in order."""
    entries: Any = running.redis.xrange("snapshots:rejected")
    return [json.loads(fields[b"entry"])["message"] for _, fields in entries]


@pytest.mark.parametrize("command", [b"XADD", b"HSET"])
def test_message_is_recorded_although_the_connection_breaks(line: tuple[Forwarder, Running], command: bytes) -> None:
    forwarder, running = line
    pid, text = running.worker.pid, f"broken {command.hex()}"
    forwarder.swallow(command)
    running.redis.lpush("snapshots", text)
    eventually(lambda: text in texts(running), 45)
    (key,) = running.bench.chunk(1)
    running.publish([key])
    running.finished([key], 45)
    assert running.worker.pid == pid


@pytest.mark.usefixtures("changeable_redis")
def test_messages_wait_while_redis_is_out_of_memory(line: tuple[Forwarder, Running]) -> None:
    running = line[1]
    expected = {f"full {number}" for number in range(5)}
    pid = running.worker.pid
    log = running.worker.log
    assert log
    marker = log.stat().st_size
    with running.redis.pipeline() as pipeline:  # at once, so that the worker takes the first when memory is full
        pipeline.lpush("snapshots", *expected)
        pipeline.config_set("maxmemory", "1")
        pipeline.execute()
    try:
        eventually(lambda: b"OutOfMemoryError" in log.read_bytes()[marker:])
    finally:
        running.redis.config_set("maxmemory", "0")
    eventually(lambda: expected <= set(texts(running)))
    assert running.worker.pid == pid
    recorded = [text for text in texts(running) if text in expected]
    assert len(recorded) == len(expected)  # only these: one whose reply was lost may be recorded twice


def test_messages_of_a_killed_worker_are_recorded_by_the_next(line: tuple[Forwarder, Running]) -> None:
    running = line[1]
    expected = [f"killed {number}" for number in range(300)]
    running.redis.lpush("snapshots", *expected)
    eventually(lambda: any(text.startswith("killed") for text in texts(running)), interval=0.001)
    running.worker.kill()
    tags: Any = running.redis.zrange("unacked_index", 0, -1)
    for tag in tags:
        running.redis.zadd("unacked_index", {tag: 1})  # as after the visibility timeout
    running.worker.start()
    eventually(lambda: not running.redis.llen("snapshots"), 60)
    # all but one: BRPOP hands a message over before anyone can note it
    eventually(lambda: len(set(expected) - set(texts(running))) <= 1)


def test_malformed_control_messages_and_events_end_no_worker(line: tuple[Forwarder, Running]) -> None:
    running = line[1]
    pid = running.worker.pid
    database = urlsplit(running.settings.redis_url).path.strip("/") or "0"
    malformed: list[Any] = [
        b"hello",
        b"\xff\xfe",
        b"5",
        b"[]",
        b"{}",
        deep(100_000).encode(),
        raw(envelope(properties={"delivery_tag": [1]})),
        raw({**envelope(), "properties": None}),
        raw(envelope(body=5)),
        raw({**envelope(), "body": "bm90IEpTT04="}),
        raw(envelope(content_type=5)),
        raw(envelope(headers={"clock": {}})),
    ]
    for channel in ("celery.pidbox", "celeryev/worker.heartbeat", "nothing"):
        for message in malformed:
            running.redis.publish(f"/{database}.{channel}", message)
    answers: Any = eventually(lambda: running.app.control.ping(timeout=1))
    assert [list(answer.values()) for answer in answers] == [[{"ok": "pong"}]]
    assert running.worker.pid == pid


def test_readiness_knows_whether_a_worker_is_alive(line: tuple[Forwarder, Running]) -> None:
    running = line[1]
    probe = RedisProbe(running.settings)
    eventually(lambda: probe() == (True, True))
    assert running.redis.ttl("snapshots:worker-alive") <= 30
    running.worker.kill()
    running.redis.delete("snapshots:worker-alive")  # as after 30 seconds
    assert probe() == (True, False)
