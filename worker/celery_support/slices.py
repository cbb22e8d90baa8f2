"""Runs the slices of exports and erasures in an additional pool process, so that requests never wait for one to end.

A slice takes up to `SNAPSHOTS_RUN_DEADLINE` and the time to write one data file. If slices could occupy all processes
of a worker, each request would wait that long.
"""

from collections import deque
from collections.abc import Callable
from typing import Any

from celery.worker.state import active_requests

from worker.stores.wakeups import EXPORTS


class Slices:
    """Runs one slice at a time on a worker, in addition to as many other tasks as its concurrency.

    Before the first one, the pool grows by a process, and each slice raises the number of messages that the worker may
    hold by one until it ends. So the other tasks always have all the processes that `-c` gives them. This does not
    apply to a worker that consumes the queue of exports alone, to pools that cannot grow, and with `--autoscale`.

    While a slice runs, the worker takes no other from the queue, so that idle workers find them there.
    """

    def __init__(self, consumer: Any) -> None:
        """`consumer`: Celery's, which calls this object instead of its own `on_task_request`."""
        self._consumer = consumer
        self._dispatch: Callable[[Any], None] = consumer.on_task_request
        self._waiting: deque[Any] = deque()
        """Slices that were taken before another one ran: those with a countdown, and one after a reconnect."""
        self._running: Any = None
        self._has_grown = False

    def __call__(self, request: Any) -> None:
        """Send a request to the pool; a slice only once no other one is running."""
        if request.delivery_info.get("routing_key") != EXPORTS or not self._applies():
            self._dispatch(request)
            return
        qos, channel = self._consumer.qos, self._consumer.task_consumer.channel
        channel.pause(EXPORTS)
        qos.increment_eventually()
        acknowledge, reject = request.on_ack, request.on_reject

        def on_ack(*args: Any) -> None:
            self._ended(request, qos, channel)
            acknowledge(*args)

        def on_reject(*args: Any) -> None:
            self._ended(request, qos, channel)
            reject(*args)

        request._on_ack, request.on_reject = on_ack, on_reject
        self._waiting.append(request)
        self._start()

    def on_close(self) -> None:
        """Forget the slices that wait, because their messages come again over the next connection."""
        self._waiting.clear()
        if self._running not in active_requests:  # it was still waiting for a process
            self._running = None

    def _applies(self) -> bool:
        own = self._consumer
        others = set(own.app.amqp.queues.consume_from) - {EXPORTS}
        return bool(others) and hasattr(own.pool, "grow") and not own.controller.autoscaler

    def _start(self) -> None:
        if self._running is not None or not self._waiting:
            return
        if not self._has_grown:
            self._consumer.pool.grow(1)
            self._consumer.pool.maintain_pool()  # forks now; Celery would do so within 5 s
            self._has_grown = True
        self._running = self._waiting.popleft()
        self._dispatch(self._running)

    def _ended(self, request: Any, qos: Any, channel: Any) -> None:
        if qos is self._consumer.qos:  # after a new connection, the number of messages starts again at its first value
            qos.decrement_eventually()
        if request is self._running:
            self._running = None
            self._start()
        if self._running is None:
            channel.resume(EXPORTS)
