"""Messages that a dead worker held come back, whatever has happened to kombu's index of them and to its mutex."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from celery import Celery
from kombu import Queue

from worker.celery_support import transport
from worker.stores.wakeups import BULK

TAG, DAY = "a-tag", 86_400


@pytest.fixture
def broker(redis_url: str) -> Iterator[Any]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def qos(redis_url: str, broker: Any) -> Iterator[Any]:
    """The record of unacknowledged messages, with one of a dead worker."""
    with Celery("test", broker=redis_url, set_as_current=False) as app:
        app.conf.broker_transport = f"{transport.__name__}:Transport"
        app.conf.task_queues = (Queue(BULK),)
        app.conf.broker_transport_options = {"visibility_timeout": -1}
        payload: dict[str, Any] = {"properties": {"delivery_info": {}}}
        broker.hset("unacked", TAG, json.dumps([payload, "", BULK]))
        with app.connection_for_read() as connection:
            channel: Any = connection.default_channel
            yield channel.qos


def test_message_without_an_index_entry_comes_back(qos: Any, broker: Any) -> None:
    qos.restore_visible(num=10, interval=1)
    assert (broker.llen(BULK), broker.hlen("unacked")) == (1, 0)


def test_message_of_a_worker_whose_clock_is_ahead_comes_back(qos: Any, broker: Any) -> None:
    broker.zadd("unacked_index", {TAG: broker.time()[0] + 100 * DAY})
    qos.restore_visible(num=10, interval=1)
    assert (broker.llen(BULK), broker.hlen("unacked")) == (1, 0)


@pytest.mark.parametrize("life", [None, 100 * DAY])
def test_mutex_that_nobody_releases_expires(qos: Any, broker: Any, life: int | None) -> None:
    broker.set("unacked_mutex", "a dead worker", ex=life)
    qos.restore_visible(num=10, interval=1)
    assert 0 < broker.ttl("unacked_mutex") <= 300
    broker.delete("unacked_mutex")
    qos.restore_visible(num=10, interval=1)
    assert broker.llen(BULK) == 1
