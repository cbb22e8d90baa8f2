"""A worker's connection to Redis that is lost while it waits for a message."""

from datetime import UTC, datetime
from typing import Any

import redis
from bson import ObjectId
from celery import Celery
from kombu import Consumer, Queue

from support.dropping import forwarder_to
from support.waiting import eventually
from worker.celery_support import transport
from worker.celery_support.publisher import CeleryPublisher
from worker.stores.wakeups import BULK


def test_connection_that_is_lost_in_a_read_closes_and_gives_its_messages_back(redis_url: str) -> None:
    with forwarder_to(redis_url) as (forwarder, url), Celery("test", broker=url, set_as_current=False) as app:
        # By its name, because kombu remembers which transport another test used for redis://.
        app.conf.broker_transport = f"{transport.__name__}:Transport"
        app.conf.task_queues = (queue := Queue(BULK),)
        CeleryPublisher(app)(BULK, [[str(ObjectId())]], datetime.now(UTC))
        connection: Any = app.connection_for_read()
        channel: Any = connection.default_channel
        other: Any = connection.channel()
        with redis.Redis.from_url(redis_url) as broker:
            Consumer(channel, [queue], callbacks=[lambda *_: None]).consume()
            connection.drain_events(timeout=10)
            assert broker.hlen("unacked") == 1
            Consumer(other, [queue]).consume()
            forwarder.swallow(b"BRPOP", 2)
            connection.transport.cycle.on_poll_start()
            assert channel._in_poll
            assert other._in_poll
            eventually(lambda: not forwarder.expects)
            # As Celery's consumer does once it has noticed.
            connection.collect(socket_timeout=2)
            connection.close()
            assert channel.closed
            assert broker.hlen("unacked") == 0
