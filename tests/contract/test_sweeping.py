"""The sweep: what was lost between the ledger and Redis is repaired, and what waits legitimately is left alone."""

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from threading import Barrier
from typing import Any

import pytest
import redis
from bson import ObjectId
from celery import Celery

from support.ledger import Bench, bench_on
from worker.clock import milliseconds
from worker.embedded import Servers
from worker.errors import BrokerUnavailable, StoreUnavailable
from worker.publisher import CeleryPublisher
from worker.resending import MARKER_KEY, PULSE_KEY, Resending
from worker.running import Run
from worker.settings import Settings
from worker.sweeping import Sweep, Swept
from worker.wakeups import BULK, INTERACTIVE, Queues

BOTH = pytest.mark.parametrize("queue", [INTERACTIVE, BULK])


@pytest.fixture
def bench(settings: Settings) -> Iterator[Bench]:
    with bench_on(settings) as made:
        made.service.clock.now()
        yield made


@pytest.fixture
def app(redis_url: str) -> Iterator[Celery]:
    """A Celery app that publishes to this test's Redis and runs nothing."""
    made = Celery("test", broker=redis_url, set_as_current=False)
    made.conf.update(task_ignore_result=True, task_serializer="json")
    yield made
    made.close()


def sweep(bench: Bench) -> Swept:
    return Sweep(bench.service)()


def enqueued(bench: Bench, keys: Sequence[ObjectId], at: datetime, queue: str = INTERACTIVE) -> None:
    """As if these had been published then."""
    bench.change(keys, enqueuedAt=at, queue=queue)


def event_ids(bench: Bench) -> list[str]:
    return [each["id"] for each in bench.events()]


# --- wake-up calls ------------------------------------------------------------------------------------------------


@BOTH
def test_lost_wake_up_is_called_again_once(bench: Bench, queue: str) -> None:
    keys = bench.chunk(3)
    enqueued(bench, keys, bench.ago(seconds=16), queue)
    assert sweep(bench).called_again == 3
    assert sorted(bench.published.ids) == sorted(map(str, keys))
    assert {name for name, _ in bench.published.chunks} == {queue}
    assert sweep(bench).called_again == 0
    assert {each["swept"] for each in bench.entries(keys)} == {1}


def test_recent_wake_up_is_not_called_again(bench: Bench) -> None:
    keys = bench.chunk(2)
    enqueued(bench, keys, bench.ago(seconds=14))
    assert sweep(bench).called_again == 0


def test_finished_and_postponed_requests_are_not_called(bench: Bench) -> None:
    done, postponed = bench.chunk(2)
    Run(bench.service)([done])
    enqueued(bench, [done, postponed], bench.ago(minutes=5))
    enqueued(bench, [postponed], bench.ago(seconds=-30))
    assert sweep(bench).called_again == 0


@BOTH
def test_requests_that_wait_behind_a_long_queue_are_left_alone(bench: Bench, app: Celery, queue: str) -> None:
    """W is the stamp of the oldest message that waits: those published after it still have theirs."""
    publisher = CeleryPublisher(app)
    waiting, lost = bench.chunk(3), bench.chunk(2)
    began = bench.ago(minutes=5)
    enqueued(bench, waiting, began + timedelta(seconds=1), queue)
    enqueued(bench, lost, began - timedelta(seconds=16), queue)
    publisher(queue, [[str(ObjectId())], *([str(key)] for key in waiting)], began)
    assert Queues(bench.connections).oldest_stamp(queue) == began
    assert sweep(bench).called_again == 2
    assert sorted(bench.published.ids) == sorted(map(str, lost))


def test_queue_of_the_others_says_nothing_about_this_one(bench: Bench, app: Celery) -> None:
    keys = bench.chunk(1)
    CeleryPublisher(app)(BULK, [[str(ObjectId())]], bench.ago(minutes=5))
    enqueued(bench, keys, bench.ago(minutes=1), INTERACTIVE)
    assert sweep(bench).called_again == 1


def test_retried_and_delayed_messages_have_their_stamp_in_the_headers(bench: Bench, app: Celery) -> None:
    at = bench.ago(seconds=7)
    CeleryPublisher(app)(INTERACTIVE, [["a"], ["b"]], at, timedelta(seconds=3))
    messages: Any = bench.connections.redis.lrange(INTERACTIVE, 0, -1)
    headers = [json.loads(each)["headers"] for each in messages]
    assert {each["stamp"] for each in headers} == {round(at.timestamp() * 1000)}
    assert all(each["eta"] for each in headers)


def test_messages_of_foreign_producers_are_passed_over(bench: Bench, app: Celery) -> None:
    at = bench.ago(minutes=5)
    for number in range(60):
        app.send_task("snapshots.request", args=[{"n": number}], queue=INTERACTIVE)
    bench.connections.redis.rpush(INTERACTIVE, "no JSON", "[]", "{}")
    assert Queues(bench.connections).oldest_stamp(INTERACTIVE) is None
    CeleryPublisher(app)(INTERACTIVE, [["a"]], at)
    assert Queues(bench.connections).oldest_stamp(INTERACTIVE) == at


def test_behind_very_many_foreign_messages_nothing_is_called_again(bench: Bench) -> None:
    keys = bench.chunk(1)
    enqueued(bench, keys, bench.ago(minutes=10))
    bench.connections.redis.lpush(INTERACTIVE, *(["foreign"] * 1100))
    assert sweep(bench).called_again == 0


def test_request_is_enqueued_on_the_bulk_queue_when_it_is_due(bench: Bench) -> None:
    due, later = bench.chunk(2)
    change = {"$unset": {"queue": "", "enqueuedAt": ""}}
    bench.database.snapshotrequests.update_many({}, change)
    bench.change([due], notBefore=bench.ago(seconds=1))
    bench.change([later], notBefore=bench.ago(seconds=-60))
    assert sweep(bench).due == 1
    assert bench.published.chunks == [(BULK, [str(due)])]
    assert bench.entry(due)["queue"] == BULK
    assert "notBefore" not in bench.entry(due)
    assert sweep(bench).due == 0


def test_request_swept_twice_gets_a_message_of_its_own(bench: Bench) -> None:
    keys = bench.chunk(3)
    enqueued(bench, keys, bench.ago(minutes=1))
    bench.change(keys[:1], swept=1)
    sweep(bench)
    assert sorted(len(chunk) for _, chunk in bench.published.chunks) == [1, 2]


def test_two_sweeps_at_once_call_no_request_twice(bench: Bench) -> None:
    keys = bench.chunk(600, messages=0)
    enqueued(bench, keys, bench.ago(minutes=1))
    other = bench.another()
    together = Barrier(2)

    def start(which: Bench) -> int:
        together.wait(10)
        return sweep(which).called_again

    try:
        with ThreadPoolExecutor(2) as sweeps:
            done = list(sweeps.map(start, [bench, other]))
    finally:
        other.connections.close()
    assert sum(done) == 600
    assert sorted(bench.published.ids + other.published.ids) == sorted(map(str, keys))


# --- events -----------------------------------------------------------------------------------------------------------


def decided_without_event(bench: Bench, count: int = 3) -> list[ObjectId]:
    """Their run died between its decision and the event."""
    keys = bench.chunk(count)
    emit = bench.service.events.emit

    def die(_: Any) -> None:
        raise BrokerUnavailable

    bench.service.events.emit = die  # type: ignore[method-assign,assignment]
    Run(bench.service)(keys)
    bench.service.events.emit = emit  # type: ignore[method-assign]
    return keys


def test_unsent_events_are_emitted_once_their_run_cannot_anymore(bench: Bench) -> None:
    sweep(bench)
    keys = decided_without_event(bench)
    assert sweep(bench).emitted == 0
    bench.change(keys, finishedAt=bench.ago(seconds=16))
    expected = {f"{key}.0" for key in keys}
    assert sweep(bench).emitted == 3
    assert set(event_ids(bench)) == expected
    assert not any(each.get("unsent") for each in bench.entries(keys))
    assert sweep(bench).emitted == 0


def test_flush_brings_every_event_again_with_its_id_and_content(bench: Bench) -> None:
    contact = bench.contact()
    keys = [*bench.chunk(20), *bench.accepted(bench.asked(contact))]
    Run(bench.service)(keys)
    sweep(bench)
    before = {each["id"]: each for each in bench.events()}
    assert len(before) == 21
    bench.connections.redis.flushall()
    assert sweep(bench).resent == 21
    assert {each["id"]: each for each in bench.events()} == before
    assert sweep(bench).resent == 0


def test_event_that_was_out_but_not_marked_as_sent_at_the_flush_comes_again(bench: Bench) -> None:
    """Its run was between the two steps, and marks it as sent after the sweep has looked."""
    sweep(bench)
    keys = bench.chunk(2)
    finish = bench.service.ledger.finish

    def flush_first(entries: Any) -> None:
        bench.connections.redis.flushall()
        sweep(bench)
        finish(entries)

    bench.service.ledger.finish = flush_first  # type: ignore[method-assign]
    Run(bench.service)(keys)
    assert set(event_ids(bench)) == {f"{key}.0" for key in keys}


def test_events_older_than_the_retention_and_stripped_ones_do_not_come_again(bench: Bench) -> None:
    keys = bench.chunk(3)
    Run(bench.service)(keys)
    bench.change(keys[:1], finishedAt=bench.ago(days=8))
    bench.database.snapshotrequests.update_one({"_id": keys[1]}, {"$unset": {"acceptedAt": "", "trigger": ""}})
    sweep(bench)
    bench.connections.redis.flushall()
    assert sweep(bench).resent == 1
    assert event_ids(bench) == [f"{keys[2]}.0"]


def test_flush_while_events_are_owed_owes_all_again(bench: Bench) -> None:
    keys = bench.chunk(5)
    Run(bench.service)(keys)
    sweep(bench)
    bench.connections.redis.flushall()
    emit = bench.service.events.emit

    def flush_after(entries: Any) -> None:
        emit(entries)
        bench.connections.redis.flushall()

    bench.service.events.emit = flush_after  # type: ignore[method-assign]
    sweep(bench)
    bench.service.events.emit = emit  # type: ignore[method-assign]
    assert event_ids(bench) == []
    assert sweep(bench).resent == 5
    assert len(event_ids(bench)) == 5


def test_crash_before_the_new_marker_repeats_the_events(bench: Bench) -> None:
    keys = bench.chunk(2)
    Run(bench.service)(keys)
    sweep(bench)
    bench.connections.redis.flushall()
    bench.database.snapshotstate.update_one({"_id": "redis"}, {"$set": {"marker": "never set"}})
    assert sweep(bench).resent == 2


def test_restart_of_redis_brings_recent_events_again_and_keeps_the_marker(bench: Bench, servers: Servers) -> None:
    if servers.valkey is None:
        pytest.skip("restarts only a Redis of its own")
    old, recent = bench.chunk(2)
    Run(bench.service)([old, recent])
    bench.change([old], finishedAt=bench.ago(hours=1))
    sweep(bench)
    marker = bench.connections.redis.get(MARKER_KEY)
    servers.valkey.restart()
    bench.connections.redis.connection_pool.disconnect()
    assert sweep(bench).resent == 1
    assert event_ids(bench)[-1] == f"{recent}.0"
    assert bench.connections.redis.get(MARKER_KEY) == marker
    assert sweep(bench).resent == 0


@pytest.mark.parametrize("pulse", ["older", "gone", "unreadable"])
def test_redis_that_comes_back_with_an_older_state_gets_every_event_again(bench: Bench, pulse: str) -> None:
    """As from a backup, a replica that lagged, or an append-only file that was cut where it was damaged: its marker is
    there, and what it lost is far more than the last second."""
    old, recent = bench.chunk(2)
    Run(bench.service)([old, recent])
    bench.change([old], finishedAt=bench.ago(hours=1))
    sweep(bench)
    redis = bench.connections.redis
    marker = redis.get(MARKER_KEY)
    redis.delete(bench.settings.events_stream)
    value = {"older": milliseconds(bench.ago(hours=2)), "gone": None, "unreadable": "soon"}[pulse]
    if value is None:
        redis.delete(PULSE_KEY)
    else:
        redis.set(PULSE_KEY, value)
    assert sweep(bench).resent == 2
    assert set(event_ids(bench)) == {f"{old}.0", f"{recent}.0"}
    assert redis.get(MARKER_KEY) != marker
    assert sweep(bench).resent == 0


def test_redis_that_restarts_within_a_sweep_gets_no_pulse_of_it(bench: Bench, servers: Servers) -> None:
    """The new one may have lost what the old one had at the look; a fresh pulse would hide it."""
    if servers.valkey is None:
        pytest.skip("restarts only a Redis of its own")
    valkey = servers.valkey
    sweep(bench)
    before = bench.connections.redis.get(PULSE_KEY)
    resending = Resending(bench.service)
    lost_since = resending._lost_since

    def restart_first(*known: Any) -> Any:
        valkey.restart()
        return lost_since(*known)

    resending._lost_since = restart_first  # type: ignore[method-assign,assignment]
    with pytest.raises(BrokerUnavailable):
        resending()
    bench.connections.redis.connection_pool.disconnect()
    assert bench.connections.redis.get(PULSE_KEY) == before


def test_event_emitted_late_comes_again_after_a_restart(bench: Bench, servers: Servers) -> None:
    if servers.valkey is None:
        pytest.skip("restarts only a Redis of its own")
    sweep(bench)
    keys = decided_without_event(bench)
    bench.change(keys, finishedAt=bench.ago(minutes=30))
    assert sweep(bench).emitted == 3
    servers.valkey.restart()
    bench.connections.redis.connection_pool.disconnect()
    assert sweep(bench).resent == 3


# --- one fault does not keep the rest from being repaired ------------------------------------------------------------


def test_store_faults_of_one_repair_leave_the_others_to_theirs(bench: Bench) -> None:
    keys = bench.chunk(1)
    enqueued(bench, keys, bench.ago(minutes=1))

    def down(_: Any) -> None:
        raise StoreUnavailable

    bench.service.events.trim = down  # type: ignore[method-assign,assignment]
    with pytest.raises(StoreUnavailable):
        sweep(bench)
    assert bench.published.ids == [str(keys[0])]


def test_sweep_without_redis_raises_and_takes_nothing(bench: Bench) -> None:
    keys = bench.chunk(1)
    enqueued(bench, keys, bench.ago(minutes=1))
    nowhere = bench.another(redis_url="redis://127.0.0.1:1/0")
    try:
        with pytest.raises(BrokerUnavailable):
            sweep(nowhere)
    finally:
        nowhere.connections.close()
    assert "swept" not in bench.entry(keys[0])
    assert sweep(bench).called_again == 1


def test_publisher_without_redis_says_broker_unavailable() -> None:
    app = Celery("test", broker="redis://127.0.0.1:1/0", set_as_current=False)
    app.conf.update(task_publish_retry=False, broker_connection_timeout=1)
    now = datetime.now().astimezone()
    for chunks in ([["a"]], [["a"], ["b"]]):
        with pytest.raises(BrokerUnavailable):
            CeleryPublisher(app)(INTERACTIVE, chunks, now)
    app.close()


def test_old_events_are_trimmed_by_age(bench: Bench, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        for number in range(500):
            client.xadd("snapshots:events", {"event": "{}"}, id=f"1000-{number}")
        (key,) = bench.chunk(1)
        Run(bench.service)([key])
        sweep(bench)
        # Trimmed by whole nodes of 100 entries, as XTRIM ~ does.
        assert 1 <= client.xlen("snapshots:events") <= 100
