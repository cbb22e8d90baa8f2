"""Which workers renew the heartbeat."""

from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from kombu import Queue

from worker.celery_support.consumer import Heartbeat
from worker.stores.wakeups import BULK, EXPORTS, INTERACTIVE, MAINTENANCE, QUEUES, REQUEST_QUEUES


class Redis:
    """Keeps the keys that are set."""

    def __init__(self) -> None:
        self.keys: dict[str, str] = {}

    def set(self, key: str, value: str, **_: Any) -> None:
        self.keys[key] = value


@pytest.mark.parametrize(
    ("consumed", "renews"),
    [
        (None, True),
        ([INTERACTIVE], True),
        ([*REQUEST_QUEUES], True),
        ([EXPORTS], False),
        ([BULK], False),
        ([MAINTENANCE], False),
    ],
)
def test_only_a_worker_of_single_requests_counts_as_alive(consumed: list[str] | None, renews: bool) -> None:
    app = Celery(set_as_current=False)
    app.conf.task_queues = tuple(Queue(name) for name in QUEUES)
    if consumed:  # None: a worker without -Q
        app.amqp.queues.select(consumed)
    recorded: list[str] = []
    consumer = SimpleNamespace(app=app, hostname="worker@here", record_rejected=lambda: recorded.append("rejected"))
    client = Redis()
    Heartbeat(consumer).act(consumer, client)
    assert ("snapshots:worker-alive" in client.keys) is renews
    assert recorded == ["rejected"]
