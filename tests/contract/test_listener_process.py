"""`snapshots listen` as a process: killed, stopped, next to another, with a wrong clock, without its servers."""

import json
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pymongo
import pytest

from support.intake import GROUP, STREAM, Producer, listener_process, listeners, producer_on
from support.waiting import allowed, eventually
from worker.clock import as_utc
from worker.local.embedded import Options, Servers, embedded
from worker.settings import Settings

QUICK = {"SNAPSHOTS_LISTENER_IDLE": "0.5s"}
BROKEN = ("{", "[]", '{"organizationId": 1}', '{"contactId": "6a0000000000000000000001"}')


@pytest.fixture
def ledger(settings: Settings, mongo_client: pymongo.MongoClient[Any]) -> Any:
    return mongo_client[settings.mongo_database].snapshotrequests


def add_many(producer: Producer, count: int, start: int = 0) -> list[str]:
    """Adds good entries, and every twentieth broken. Returns the ids of the broken ones."""
    broken = []
    for first in range(start, start + count, 19):
        producer.requests([f"r{number}" for number in range(first, min(first + 19, start + count))])
        broken.append(producer.add("snapshot.requested", BROKEN[first % len(BROKEN)]))
    return broken


def assert_each_once(producer: Producer, ledger: Any, count: int, broken: list[str]) -> None:
    names = [each["requestId"] for each in ledger.find()]
    assert sorted(names) == sorted(f"r{number}" for number in range(count))
    assert sorted(producer.rejected()) == sorted(broken)
    published = [key for chunks in producer.messages().values() for chunk in chunks for key in chunk]
    assert len(published) == len(set(published))
    assert set(published) <= {str(each["_id"]) for each in ledger.find({}, {"_id": 1})}


def test_a_listener_killed_repeatedly_neither_loses_nor_duplicates_requests(
    producer: Producer, ledger: Any, settings: Settings, tmp_path: Path
) -> None:
    dice = random.Random(7)
    broken = add_many(producer, 3000)
    child = listener_process(settings, tmp_path / "listener.log", QUICK | {"SNAPSHOTS_CHUNK_SIZE": "20"})
    with listeners(child):
        for kill in range(5):
            before = ledger.count_documents({})
            broken += add_many(producer, 400, 3000 + 400 * kill)
            eventually(lambda before=before: ledger.count_documents({}) > before, 45, 0.001)  # type: ignore[misc]
            time.sleep(dice.uniform(0, 0.05))  # into the next batch
            child.restart()
        producer.wait_until_settled(60)
    assert_each_once(producer, ledger, 5000, broken)


def test_two_listeners_with_clocks_ten_minutes_slow_and_fast_share_the_work(
    producer: Producer, ledger: Any, settings: Settings, tmp_path: Path
) -> None:
    slow = listener_process(settings, tmp_path / "slow.log", QUICK, skew=-600)
    fast = listener_process(settings, tmp_path / "fast.log", QUICK, skew=600)
    closing = {"organizationId": str(producer.organization), "conversationId": "6a0000000000000000000001"}
    with listeners(slow, fast):
        early = producer.add("conversation.resolved", closing)
        broken = add_many(producer, 2000)
        eventually(lambda: len(producer.rejected()) == len(broken) and producer.pending() == 1, 60)
    assert_each_once(producer, ledger, 2000, broken)
    assert early not in producer.rejected()
    now = as_utc(ledger.database.client.admin.command("hello")["localTime"])
    for each in ledger.find():
        assert abs((each["acceptedAt"] - now).total_seconds()) < 60
        assert abs((each["enqueuedAt"] - now).total_seconds()) < 60


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_it_finish_and_exit_with_0(
    producer: Producer, ledger: Any, settings: Settings, tmp_path: Path, number: int
) -> None:
    child = listener_process(settings, tmp_path / "listener.log")
    with listeners(child):
        producer.requests([f"r{count}" for count in range(3000)])
        eventually(lambda: ledger.count_documents({}), 45, 0.001)
        psutil.Process(child.pid).send_signal(number)
        assert child.wait(allowed(10)) == 0
    assert producer.pending() == 0
    assert producer.redis.xinfo_consumers(STREAM, GROUP) == []
    assert ledger.count_documents({}) + producer.unread() == 3000


def test_the_listener_continues_after_redis_was_out_of_memory(
    producer: Producer, ledger: Any, settings: Settings, servers: Servers, tmp_path: Path
) -> None:
    if servers.valkey is None:
        pytest.skip("the Redis is not ours to fill")
    child = listener_process(settings, tmp_path / "listener.log", QUICK)
    with listeners(child):
        broken = add_many(producer, 190)
        producer.wait_until_settled()
        process = psutil.Process(child.pid)
        try:
            process.suspend()  # so that it handles none of these before the memory is used up
            more = add_many(producer, 19, 190)
            producer.redis.config_set("maxmemory", "1mb")
            process.resume()
            eventually(lambda: ledger.count_documents({}) == 209)
        finally:
            producer.redis.config_set("maxmemory", "0")
        producer.wait_until_settled()
    assert_each_once(producer, ledger, 209, broken + more)


# --- outages of both servers, which belong to this test alone ------------------------------------------------


@pytest.fixture
def own_servers(tmp_path: Path) -> Iterator[Servers]:
    with embedded(tmp_path / "servers", options=Options(cache_gb=0.25)) as servers:
        yield servers


def test_both_servers_may_go_and_come_back(own_servers: Servers, settings: Settings, tmp_path: Path) -> None:
    own = settings.model_copy(update={"mongo_url": own_servers.mongo_url, "redis_url": own_servers.redis_url})
    assert own_servers.mongod is not None
    assert own_servers.valkey is not None
    child = listener_process(own, tmp_path / "listener.log", QUICK)
    with (
        producer_on(own) as producer,
        pymongo.MongoClient[Any](own.mongo_url, tz_aware=True) as client,
        listeners(child),
    ):
        ledger = client[own.mongo_database].snapshotrequests
        broken = add_many(producer, 190)
        producer.wait_until_settled()
        own_servers.mongod.kill()
        broken += add_many(producer, 190, 190)
        eventually(lambda: "listener_interrupted" in child.output(), 45)
        own_servers.mongod.restart()
        producer.wait_until_settled(30)
        own_servers.valkey.restart()
        # Redis continues with what is in its append-only file, and new entries are accepted.
        broken += add_many(producer, 190, 380)
        producer.wait_until_settled(30)
        producer.redis.flushdb()
        broken_after = add_many(producer, 190, 570)
        eventually(lambda: ledger.count_documents({}) == 760, 60)
        producer.wait_until_settled(30)
        assert sorted(producer.rejected()) == sorted(broken_after)
        assert child.running
        names = [each["requestId"] for each in ledger.find()]
        assert sorted(names) == sorted(f"r{number}" for number in range(760))
    lines = [json.loads(line) for line in (tmp_path / "listener.log").read_text().splitlines()]
    assert not [line for line in lines if "exception" in line]
