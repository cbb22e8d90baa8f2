"""Keys of Redis with values of the wrong type: workers move them aside, and no request waits for anyone."""

from collections.abc import Iterator
from typing import Any

import pytest
from kombu.transport.redis import Channel

from support.served import own_settings
from support.stack import Running, stack
from support.waiting import eventually
from worker.errors import BrokerUnavailable
from worker.local.embedded import Servers
from worker.stores.key_types import MARKER_KEY, MOVED, PRIORITY_STEPS, SEPARATOR, key_types, moved_keys
from worker.stores.wakeups import QUEUES

WRONG = b"not what belongs here"


@pytest.fixture(scope="module")
def running(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    settings = own_settings(servers)
    with stack(settings, tmp_path_factory.mktemp("keys")) as made:
        made.redis.flushdb()
        eventually(lambda: made.redis.exists(MARKER_KEY), 20)
        yield made
        made.database.client.drop_database(settings.mongo_database)


def complete_one(running: Running, queue: str = "snapshots") -> None:
    """Send one request, again for as long as Redis refuses it, as the API does."""
    (key,) = running.bench.chunk(1)

    def publish() -> bool:
        try:
            running.publish([key], queue)
        except BrokerUnavailable:
            return False
        return True

    eventually(publish, 6, 0.2)
    running.finished([key], 6)


def moved(running: Running) -> dict[str, str]:
    """The former names of moved keys, with their present names."""
    return {key.removeprefix(MOVED).partition(":")[2]: key for key in moved_keys(running.redis)}


def entries(running: Running, stream: str) -> list[Any]:
    found: Any = running.redis.xrange(stream)
    return list(found)


@pytest.mark.parametrize("wrong", [*QUEUES, f"snapshots{SEPARATOR}9"])
def test_text_in_place_of_a_queue_stops_no_request(running: Running, wrong: str) -> None:
    pid = running.worker.pid
    running.redis.set(wrong, WRONG)
    complete_one(running)
    eventually(lambda: wrong in moved(running))
    assert running.redis.get(moved(running)[wrong]) == WRONG
    assert 0 < running.redis.ttl(moved(running)[wrong]) <= running.settings.events_retention.total_seconds()
    assert running.worker.pid == pid
    assert running.worker.running
    if wrong in QUEUES[:2]:
        complete_one(running, wrong)


def test_requests_complete_after_every_key_had_a_wrong_type_at_once(running: Running) -> None:
    types = key_types(running.settings)
    with running.redis.pipeline() as pipeline:
        for key in types:
            pipeline.set(key, WRONG)
        pipeline.execute()
    complete_one(running)
    eventually(lambda: set(moved(running)) >= set(types), 10)
    own = {key.decode(): running.redis.type(key).decode() for key in running.redis.scan_iter()}  # type: ignore[union-attr]
    strings = ("snapshots:claim:", MOVED, MARKER_KEY, "snapshots:pulse", "snapshots:worker-alive", "unacked_mutex")
    unknown = {key for key in own if key not in types and not key.startswith(strings)}
    assert not unknown, "a key that is in use but not checked"
    assert {key: own[key] for key in types if key in own} == {key: types[key] for key in types if key in own}


def test_events_are_emitted_again_after_their_stream_was_overwritten(running: Running) -> None:
    complete_one(running)
    stream = running.settings.events_stream
    ((_, before),) = entries(running, stream)[-1:]
    running.redis.set(stream, WRONG)
    eventually(lambda: running.redis.type(stream) == b"stream", 20)
    eventually(lambda: before in [fields for _, fields in entries(running, stream)], 30)


def test_checked_queues_are_those_that_kombu_reads() -> None:
    assert (list(PRIORITY_STEPS), SEPARATOR) == (Channel.priority_steps, Channel.sep)
