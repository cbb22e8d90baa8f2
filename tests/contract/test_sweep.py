"""The sweep repairs what was lost between the ledger and Redis, and leaves alone what is still waiting."""

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

from support.ledger import Bench
from support.sweeping import sweep
from worker.celery_support.publisher import CeleryPublisher
from worker.errors import BrokerUnavailable, StoreUnavailable, UnexpectedError
from worker.runs.run import Run
from worker.service import Receipt
from worker.stores.wakeups import BULK, INTERACTIVE, UNKNOWN, Queues

BOTH = pytest.mark.parametrize("queue", [INTERACTIVE, BULK])


@pytest.fixture
def app(redis_url: str) -> Iterator[Celery]:
    """A Celery app that publishes to this test's Redis and runs nothing."""
    made = Celery("test", broker=redis_url, set_as_current=False)
    made.conf.update(task_ignore_result=True, task_serializer="json")
    yield made
    made.close()


def enqueued(bench: Bench, keys: Sequence[ObjectId], at: datetime, queue: str = INTERACTIVE) -> None:
    """Make these requests look as if they had been published then."""
    bench.change(keys, enqueuedAt=at, queue=queue)


# --- wake-up calls ------------------------------------------------------------------------------------------------


@BOTH
def test_lost_wake_up_is_enqueued_again_once(bench: Bench, queue: str) -> None:
    keys = bench.chunk(3)
    enqueued(bench, keys, bench.ago(seconds=16), queue)
    assert sweep(bench).re_enqueued == 3
    assert sorted(bench.published.ids) == sorted(map(str, keys))
    assert {name for name, _ in bench.published.chunks} == {queue}
    assert sweep(bench).re_enqueued == 0
    assert {each["swept"] for each in bench.entries(keys)} == {1}


@BOTH
@pytest.mark.usefixtures("changeable_redis")
def test_lost_wake_up_is_enqueued_as_soon_as_redis_takes_writes_again(bench: Bench, queue: str) -> None:
    keys = bench.chunk(2)
    enqueued(bench, keys, bench.ago(seconds=16), queue)
    broker = bench.service.connections.redis
    broker.config_set("min-replicas-to-write", 1)  # as on a new primary, which has no replica yet
    try:
        with pytest.raises(BrokerUnavailable, match="NOREPLICAS"):
            sweep(bench)
        assert not bench.published.ids
    finally:
        broker.config_set("min-replicas-to-write", 0)
    assert sweep(bench).re_enqueued == 2


@BOTH
def test_wake_up_that_redis_refused_is_enqueued_by_the_next_sweep(bench: Bench, queue: str) -> None:
    contact = bench.contact()
    receipts = bench.service.accept([bench.asked(contact, queue=queue) for _ in range(2)])

    def refuse(*_: Any, **__: Any) -> None:
        raise BrokerUnavailable

    bench.service.publish = refuse
    bench.service.enqueue(each for each in receipts if isinstance(each, Receipt))
    assert sweep(bench).re_enqueued == 0
    bench.service.publish = bench.published
    assert sweep(bench).re_enqueued == 2
    assert sorted(bench.published.ids) == sorted(str(each["_id"]) for each in bench.database.snapshotrequests.find())
    assert sweep(bench).re_enqueued == 0


def test_recent_wake_up_is_not_enqueued_again(bench: Bench) -> None:
    keys = bench.chunk(2)
    enqueued(bench, keys, bench.ago(seconds=5))
    assert sweep(bench).re_enqueued == 0


@BOTH
def test_wake_up_dated_ahead_by_a_former_primary_is_enqueued_again(bench: Bench, queue: str) -> None:
    keys = bench.chunk(2)
    enqueued(bench, keys, bench.ago(minutes=-10), queue)
    assert sweep(bench).re_enqueued == 2
    assert sweep(bench).re_enqueued == 0


def test_finished_and_postponed_requests_are_not_enqueued(bench: Bench) -> None:
    done, postponed = bench.chunk(2)
    Run(bench.service)([done])
    enqueued(bench, [done, postponed], bench.ago(minutes=5))
    enqueued(bench, [postponed], bench.ago(seconds=-30))
    assert sweep(bench).re_enqueued == 0


@BOTH
def test_requests_that_wait_behind_a_long_queue_are_left_alone(bench: Bench, app: Celery, queue: str) -> None:
    """Requests published after the oldest waiting message still have their messages."""
    publisher = CeleryPublisher(app)
    waiting, lost = bench.chunk(3), bench.chunk(2)
    began = bench.ago(minutes=5)
    enqueued(bench, waiting, began + timedelta(seconds=1), queue)
    enqueued(bench, lost, began - timedelta(seconds=16), queue)
    publisher(queue, [[str(ObjectId())], *([str(key)] for key in waiting)], began)
    assert Queues(bench.connections).oldest_stamp(queue) == began
    assert sweep(bench).re_enqueued == 2
    assert sorted(bench.published.ids) == sorted(map(str, lost))


def test_each_queue_is_judged_by_its_own_oldest_message(bench: Bench, app: Celery) -> None:
    keys = bench.chunk(1)
    CeleryPublisher(app)(BULK, [[str(ObjectId())]], bench.ago(minutes=5))
    enqueued(bench, keys, bench.ago(minutes=1), INTERACTIVE)
    assert sweep(bench).re_enqueued == 1


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


def test_behind_very_many_foreign_messages_nothing_is_enqueued_again(bench: Bench) -> None:
    keys = bench.chunk(1)
    enqueued(bench, keys, bench.ago(minutes=10))
    bench.connections.redis.lpush(INTERACTIVE, *(["foreign"] * 1100))
    assert sweep(bench).re_enqueued == 0


def test_request_is_enqueued_when_it_is_due(bench: Bench) -> None:
    due, later = bench.chunk(2)
    change = {"$unset": {"queue": "", "enqueuedAt": ""}}
    bench.database.snapshotrequests.update_many({}, change)
    bench.change([due], notBefore=bench.ago(seconds=1))
    bench.change([later], notBefore=bench.ago(seconds=-60))
    assert sweep(bench).due == 1
    assert bench.published.chunks == [(INTERACTIVE, [str(due)])]
    assert bench.entry(due)["queue"] == INTERACTIVE
    assert "notBefore" not in bench.entry(due)
    assert sweep(bench).due == 0


def test_few_due_requests_of_an_organization_do_not_wait_behind_anothers_many(bench: Bench) -> None:
    keys = bench.chunk(101)
    bench.database.snapshotrequests.update_many({}, {"$unset": {"queue": "", "enqueuedAt": ""}})
    bench.change(keys, notBefore=bench.ago(seconds=1))
    other = ObjectId()
    bench.change(keys[-1:], organizationId=other)
    assert sweep(bench).due == 101
    queues = bench.database.snapshotrequests.find({"organizationId": {"$ne": other}}).distinct("queue")
    many = bench.database.snapshotrequests.count_documents({"queue": BULK})
    assert (sorted(queues), many > 80, bench.entry(keys[-1])["queue"]) == ([INTERACTIVE, BULK], True, INTERACTIVE)
    published = [(queue, key) for queue, chunk in bench.published.chunks for key in chunk]
    assert sorted(published) == sorted((bench.entry(key)["queue"], str(key)) for key in keys)


def test_requests_whose_messages_were_lost_again_and_again_stay_in_chunks(bench: Bench) -> None:
    """A lost message says nothing about its request."""
    keys = bench.chunk(5)
    for times in (1, 2, 3):
        enqueued(bench, keys, bench.ago(minutes=1))
        assert sweep(bench).re_enqueued == 5
        assert [len(chunk) for _, chunk in bench.published.chunks] == [5] * times
    assert {entry["swept"] for entry in bench.entries(keys)} == {3}


def test_requests_of_dead_runs_get_messages_of_their_own(bench: Bench) -> None:
    keys = bench.chunk(6)
    enqueued(bench, keys, bench.ago(minutes=1))
    bench.change(keys[:2], unended=1)
    bench.change(keys[2:4], unended=2)
    sweep(bench)
    chunks = sorted(sorted(chunk) for _, chunk in bench.published.chunks)
    first, second, third, fourth, *others = map(str, keys)
    assert chunks == sorted([sorted([first, second]), [third], [fourth], sorted(others)])


def test_two_sweeps_at_once_enqueue_no_request_twice(bench: Bench) -> None:
    keys = bench.chunk(600, messages=0)
    enqueued(bench, keys, bench.ago(minutes=1))
    other = bench.another()
    together = Barrier(2)

    def start(which: Bench) -> int:
        together.wait(10)
        return sweep(which).re_enqueued

    try:
        with ThreadPoolExecutor(2) as sweeps:
            done = list(sweeps.map(start, [bench, other]))
    finally:
        other.connections.close()
    assert sum(done) == 600
    assert sorted(bench.published.ids + other.published.ids) == sorted(map(str, keys))


# --- one fault does not keep the rest from being repaired ------------------------------------------------------------


def test_fault_of_one_repair_does_not_prevent_the_others(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first repairs fail, and one of the last ones; the one between them enqueues a request that is due."""
    (key,) = bench.chunk(1)
    bench.database.snapshotrequests.update_many({}, {"$unset": {"queue": "", "enqueuedAt": ""}})
    bench.change([key], notBefore=bench.ago(seconds=1))

    def down(*_: Any) -> None:
        raise StoreUnavailable

    monkeypatch.setattr(Queues, "oldest_stamp", down)
    monkeypatch.setattr(bench.service.events, "trim", down)
    with pytest.raises(StoreUnavailable):
        sweep(bench)
    assert bench.published.ids == [str(key)]


def test_unexpected_error_of_one_repair_does_not_prevent_the_others(bench: Bench) -> None:
    (old,) = bench.chunk(1)
    Run(bench.service)([old])
    bench.change([old], finishedAt=bench.ago(days=100))

    def broken(_: Any) -> None:
        raise KeyError("trigger")

    bench.service.events.trim = broken  # type: ignore[method-assign,assignment]
    with pytest.raises(UnexpectedError, match="KeyError in the repair trim_streams"):
        sweep(bench)
    assert "acceptedAt" not in bench.entry(old), "a later repair has stripped it"


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
    assert sweep(bench).re_enqueued == 1


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


def test_huge_and_deep_messages_do_not_stop_a_reader_of_the_queues(bench: Bench) -> None:
    client: Any = bench.connections.redis
    queues = Queues(bench.connections)
    client.lpush(INTERACTIVE, b"[" * 100_000, b"\xff", b"[" * 9_000_000)
    assert queues.oldest_stamp(INTERACTIVE) == UNKNOWN
    assert queues.newest(INTERACTIVE, 50) == [b""]
    client.ltrim(INTERACTIVE, 1, -1)
    assert queues.oldest_stamp(INTERACTIVE) is None
