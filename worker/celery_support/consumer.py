"""Celery's consumer, changed to record messages that it cannot dispatch instead of dropping them or crashing."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from traceback import format_tb
from typing import Any

from celery import bootsteps
from celery.worker.consumer import Consumer as BaseConsumer
from celery.worker.consumer.tasks import Tasks
from kombu.serialization import loads
from redis.exceptions import RedisError

from worker.celery_support.bulk_rejection import reject_oldest
from worker.celery_support.fair_queue import divert_floods
from worker.celery_support.message_format import CARRIER, fault
from worker.celery_support.payloads import original
from worker.celery_support.slices import Slices
from worker.celery_support.transport import CONNECTION_ERRORS
from worker.errors import InvalidMessage
from worker.intake.entries import PRODUCER_TASKS
from worker.log import get_logger
from worker.settings import settings
from worker.stores import heartbeat
from worker.stores.events import rejection
from worker.stores.key_types import move_wrong_keys
from worker.stores.stream_ids import move_future_streams
from worker.stores.wakeups import BULK, INTERACTIVE, QUEUES

log = get_logger(__name__)

_LOOK_SECONDS = 0.5
"""How often a worker looks for floods while it gets messages of producers, and for malformed messages after a look that
has found none."""


class Consumer(BaseConsumer):
    """Dispatches messages to the pool. Messages that it cannot dispatch go to the stream of rejected entries."""

    controller: Any
    strategies: dict[str, Any]
    task_consumer: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._unrecorded: dict[str, dict[str, str]] = {}
        """Rejected messages that could not be recorded in Redis yet, by delivery tag. They stay unacknowledged until
        then."""
        self._next_divert: dict[str, float] = {}
        self._next_reject: dict[str, float] = {}
        """The earliest times, by queue, of the next look for floods and for malformed messages (monotonic clock)."""
        super().__init__(*args, **kwargs)
        self._slices = self.on_task_request = Slices(self)

    def on_close(self) -> None:
        """Forget all messages of a lost connection."""
        super().on_close()
        self._slices.on_close()

    def connect(self) -> Any:
        """Connect to Redis, whose keys must have the right types before queues are declared and read."""
        with settings().redis.client(socket_timeout=5, socket_connect_timeout=3) as client:
            move_wrong_keys(client, settings())
        return super().connect()

    def update_strategies(self) -> None:
        """Serve our own tasks only.

        Celery's built-in tasks can run other tasks any number of times, or wait forever.
        """
        super().update_strategies()
        for name in [name for name in self.strategies if name.startswith("celery.")]:
            del self.strategies[name]

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], None]:
        """Return the function that Celery calls with each message of a queue."""
        dispatch = super().create_task_handler(*args, **kwargs)

        def handle(message: Any) -> None:
            if message.headers["task"] == CARRIER:
                self._reject(message, InvalidMessage(message.headers["errors"]))
                return
            if message.headers["task"] in PRODUCER_TASKS and (queue := message.delivery_info["routing_key"]) != BULK:
                self._divert_floods(queue)
            free = self._free_slots()
            try:
                self._check_call(message.headers["task"], message.decode)
                dispatch(message)
            except CONNECTION_ERRORS:
                raise
            except Exception as error:  # noqa: BLE001 - one message must not end the worker
                if not isinstance(error, InvalidMessage):
                    # Does not include the exception's text, which may quote the message.
                    log.error("message_not_dispatched", reason=type(error).__name__, at=format_tb(error.__traceback__))
                    error = fault("message", f"could not be dispatched ({type(error).__name__})")
                if self._free_slots() < free:
                    self.controller.semaphore.release()
                self._reject(message, error)

        return handle

    def _free_slots(self) -> int:
        """Return the number of free pool processes, according to the consumer's own count."""
        semaphore = getattr(self.controller, "semaphore", None)
        return semaphore.value if semaphore else 0

    def _check_call(self, name: str, decode: Callable[[], Any]) -> None:
        """Check that a message calls one of our tasks with its arguments. Raises InvalidMessage.

        `decode`: returns positional arguments, named arguments and options, as kombu decodes them.
        """
        task: Any = self.app.tasks.get(name)
        if task is None or name not in self.strategies:
            raise fault("headers.task", "is not the name of a task")
        try:
            args, kwargs, _ = decode()
        except Exception as error:  # noqa: BLE001 - kombu's decoders of dates and the like raise anything
            raise fault("body", f"could not be decoded ({type(error).__name__})") from None
        try:
            task.__header__(*args, **kwargs)
        except TypeError:
            raise fault("body", "does not match the arguments of the task") from None

    # --- messages that Celery refuses --------------------------------------------------------------------------

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """Reject a body that kombu cannot decode, such as one with a malformed date. Control messages come here too."""
        if message.delivery_info.get("routing_key") in QUEUES:
            self._reject(message, fault("body", f"could not be decoded ({type(exc).__name__})"))
        else:
            super().on_decode_error(message, exc)

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:
        """Reject a message with a header that Celery refuses."""
        self._reject(message, fault("headers", f"were rejected by Celery ({type(exc).__name__})"))

    def on_unknown_message(self, body: Any, message: Any) -> None:
        """Reject a message that is in none of Celery's formats."""
        self._reject(message, fault("message", "should use version 2 of Celery's message protocol"))

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:
        """Reject a message for a task that this project does not have."""
        self._reject(message, fault("headers.task", "is not the name of a task"))

    # --- recording ----------------------------------------------------------------------------------------

    def _reject(self, message: Any, error: InvalidMessage) -> None:
        queue, headers = message.delivery_info["routing_key"], message.headers
        is_carrier = headers["task"] == CARRIER
        raw = message.body if is_carrier else _as_sent(message)
        entry = original(raw, queue, headers["bytes"] if is_carrier else len(raw))
        origin = f"task:{headers['id']}"
        self._unrecorded[message.delivery_tag] = rejection(error.outcome(), entry, origin)
        log.warning("message_rejected", code=error.code, reason=error.message, queue=queue, origin=origin)
        self.record_rejected()
        self._reject_more(queue)

    def _reject_more(self, queue: str) -> None:
        """Reject the malformed messages that follow a rejected one, before the requests behind them have to wait."""
        if time.monotonic() < self._next_reject.get(queue, 0.0):
            return

        def check_call(name: str, body: bytes) -> None:
            self._check_call(name, partial(loads, body, "application/json", "utf-8"))

        count = 0
        with self._client("reject_failed") as client:
            if count := reject_oldest(client, queue, settings().rejected_stream, check_call):
                log.warning("messages_rejected", count=count, queue=queue)
        if not count:  # few are malformed, or each has a fault that only its dispatch shows
            self._next_reject[queue] = time.monotonic() + _LOOK_SECONDS

    def _divert_floods(self, queue: str) -> None:
        """Move the messages of a flood to the intake stream, before the messages behind them have to wait."""
        if time.monotonic() < self._next_divert.get(queue, 0.0):
            return
        with self._client("divert_failed") as client:
            if count := divert_floods(client, settings(), queue):
                log.info("messages_diverted", count=count, queue=queue)
        self._next_divert[queue] = time.monotonic() + _LOOK_SECONDS

    @contextmanager
    def _client(self, event: str) -> Iterator[Any]:
        """Lend a redis-py client. If Redis refuses a command, log this event and continue."""
        try:
            with self.task_consumer.channel.conn_or_acquire() as client:
                yield client
        except CONNECTION_ERRORS:
            raise
        except RedisError as error:
            log.warning(event, reason=type(error).__name__)

    def record_rejected(self) -> None:
        """Record rejected messages and acknowledge them. If Redis refuses, the next heartbeat tries again."""
        for tag, fields in list(self._unrecorded.items()):
            try:
                self.task_consumer.channel.record_rejected(tag, fields)
            except CONNECTION_ERRORS:
                raise
            except RedisError as error:
                log.warning("reject_failed", reason=type(error).__name__)
                return
            del self._unrecorded[tag]


def _as_sent(message: Any) -> bytes:
    """Return the original message. Celery only sees one that is rebuilt from its checked parts."""
    return json.dumps({"headers": message.headers, "body": message.body.decode(errors="backslashreplace")}).encode()


class _Repeated(bootsteps.StartStopStep):
    """Something that the parent's event loop does after each connect, and then again and again."""

    requires = (Tasks,)
    every: timedelta

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self._timer: Any = None

    def act(self, consumer: Any, client: Any) -> None:
        """Do it once. `client`: the connection to Redis over which the worker publishes."""
        raise NotImplementedError

    def start(self, consumer: Any) -> None:
        """Start the timer. Celery calls this after each connect."""

        def tick() -> None:
            with consumer.task_consumer.channel.conn_or_acquire() as client:
                self.act(consumer, client)

        self.stop(consumer)
        tick()
        self._timer = consumer.timer.call_repeatedly(self.every.total_seconds(), tick)

    def stop(self, consumer: Any) -> None:
        """Stop the timer. Celery calls this before each reconnect."""
        if self._timer:
            self._timer.cancel()
            self._timer = None


class Heartbeat(_Repeated):
    """Renews the workers' heartbeat in Redis, and retries failed recordings.

    A worker that does not consume the queue of single requests, such as one for exports alone, does not count as alive:
    no single request would be processed.
    """

    every = heartbeat.INTERVAL

    def act(self, consumer: Any, client: Any) -> None:
        """Renew the heartbeat, and record rejected messages."""
        if INTERACTIVE in consumer.app.amqp.queues.consume_from:
            heartbeat.beat(client, consumer.hostname)
        consumer.record_rejected()


class KeyCheck(_Repeated):
    """Moves Redis keys that block queues or streams out of the way, once a second, so that no request waits long."""

    every = timedelta(seconds=1)

    def act(self, consumer: Any, client: Any) -> None:
        """Check all keys once."""
        move_wrong_keys(client, settings())
        move_future_streams(client, settings())
