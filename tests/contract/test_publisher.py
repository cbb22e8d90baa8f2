"""The publisher on a broker that refuses messages."""

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
import redis
from bson import ObjectId
from celery import Celery
from kombu import Queue

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
