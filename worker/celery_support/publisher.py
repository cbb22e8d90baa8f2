"""Publishes wake-up calls through Celery."""

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from datetime import datetime, timedelta
from typing import Any

from celery import Celery
from kombu.exceptions import KombuError, OperationalError
from redis.exceptions import RedisError

from worker.clock import milliseconds
from worker.errors import BrokerUnavailable
from worker.stores.wakeups import CREATE, STAMP, repr_of

_FAULTS = (OperationalError, KombuError, RedisError, OSError)


class CeleryPublisher:
    """Publishes through a Celery app."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    def __call__(
        self, queue: str, chunks: Iterable[Sequence[str]], at: datetime, delay: timedelta | None = None
    ) -> None:
        messages = [list(chunk) for chunk in chunks]
        options: dict[str, Any] = {
            "queue": queue,
            "headers": {STAMP: milliseconds(at)},
            "retry": False,
            "countdown": delay.total_seconds() if delay else None,
        }
        # Once more over a new connection: the old one may be dead, or closed in part. kombu 5.7 repeats a publish that
        # Redis refused (out of memory) on a channel that it has closed itself, which ends in an AttributeError; so its
        # own repetition is off. A request that is woken up twice is done once.
        # RedisError: kombu lets a refusal through as it is (Redis is out of memory, or only reads).
        try:
            self._publish_all(messages, options)
        except _FAULTS:
            try:
                self._publish_all(messages, options)
            except _FAULTS as error:
                raise BrokerUnavailable(f"Redis takes no messages ({type(error).__name__}).") from error

    def _publish_all(self, messages: list[list[str]], options: dict[str, Any]) -> None:
        """In one pipeline; after a fault some may be in the queue, and the connection is made anew."""
        with self._app.producer_or_acquire() as producer:
            try:
                producer.connection.ensure_connection(max_retries=1, interval_start=0.1)
                with producer.batch() if len(messages) > 1 else nullcontext():
                    for ids in messages:
                        self._publish(producer, ids, options)
            except BaseException:
                producer.connection.collect()
                raise

    def _publish(self, producer: Any, ids: list[str], options: dict[str, Any]) -> None:
        self._app.send_task(
            CREATE,
            args=[ids],
            producer=producer,
            argsrepr=repr_of(ids),
            kwargsrepr="{}",
            ignore_result=True,
            **options,
        )
