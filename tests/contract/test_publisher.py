"""The publisher: its clients, and a broker that refuses messages."""

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
import redis
from bson import ObjectId
from celery import Celery
from kombu import Queue

from worker.celery_support import transport
from worker.celery_support.publisher import CeleryPublisher
from worker.errors import BrokerUnavailable
from worker.local.embedded import Servers
from worker.stores.wakeups import BULK


@contextmanager
def alternating_memory_limit(broker: redis.Redis) -> Iterator[None]:
    stop = threading.Event()

    def change() -> None:
        for limit in itertools.cycle(("1mb", "0")):
            broker.config_set("maxmemory", limit)
            if stop.wait(0.005):
                return

    changing = threading.Thread(target=change)
    changing.start()
    try:
        yield
    finally:
        stop.set()
        changing.join()
        broker.config_set("maxmemory", "0")


@pytest.mark.usefixtures("changeable_redis")
def test_broker_that_is_briefly_out_of_memory_is_unavailable_and_never_breaks_the_publisher(
    servers: Servers, redis_url: str
) -> None:
    if servers.valkey is None:
        pytest.skip("the Redis is not ours to fill")
    with (
        Celery("test", broker=redis_url, set_as_current=False) as app,
        redis.Redis.from_url(redis_url) as broker,
    ):
        app.conf.task_queues = (Queue(BULK),)
        publish = CeleryPublisher(app)
        refused = 0
        with alternating_memory_limit(broker):
            for count in range(1000):
                try:
                    publish(BULK, [[str(ObjectId())]] * (1 + count % 3), datetime.now(UTC))
                except BrokerUnavailable:
                    refused += 1
        before = broker.llen(BULK)
        publish(BULK, [[str(ObjectId())]], datetime.now(UTC))
        assert broker.llen(BULK) == before + 1
    assert 0 < refused < 1000


def test_messages_share_a_client_until_the_connections_are_closed(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    created: list[object] = []
    begin = redis.Redis.__init__

    def count(self: redis.Redis, *args: Any, **options: Any) -> None:
        created.append(self)
        begin(self, *args, **options)

    with Celery("test", broker=redis_url, set_as_current=False) as app, redis.Redis.from_url(redis_url) as broker:
        app.conf.update(task_queues=(Queue(BULK),), broker_transport=f"{transport.__name__}:Transport")
        publish = CeleryPublisher(app)
        publish(BULK, [[str(ObjectId())]], datetime.now(UTC))
        monkeypatch.setattr(redis.Redis, "__init__", count)
        for chunks in (1, 2, 1):
            publish(BULK, [[str(ObjectId())]] * chunks, datetime.now(UTC))
        assert created == []
        with app.producer_or_acquire() as producer:
            producer.connection.collect()
        publish(BULK, [[str(ObjectId())]], datetime.now(UTC))
        assert created
        assert broker.llen(BULK) == 6
