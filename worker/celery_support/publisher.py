"""Publishes wake-ups through Celery."""

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
    """Publishes wake-ups with the producers of a Celery app. See `worker.stores.wakeups.Publish`."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    def __call__(
        self,
        queue: str,
        chunks: Iterable[Sequence[str]],
        at: datetime,
        delay: timedelta | None = None,
        task_id: str | None = None,
        task: str = CREATE,
    ) -> None:
        messages = [(list(chunk), None if number else task_id) for number, chunk in enumerate(chunks)]
        options: dict[str, Any] = {
            "name": task,
            "queue": queue,
            "headers": {STAMP: milliseconds(at)},
            "retry": False,
            "countdown": delay.total_seconds() if delay else None,
        }
        # One retry over a new connection, because the pooled one may be dead or half closed. kombu's own retry is off:
        # kombu 5.7 repeats a publish that Redis refused (out of memory) on a channel that it has already closed, which
        # raises an AttributeError. A request whose wake-up is sent twice is still done once.
        # RedisError is in the list because kombu passes refusals (out of memory, read-only replica) through.
        try:
            self._publish_all(messages, options)
        except _FAULTS:
            try:
                self._publish_all(messages, options)
            except _FAULTS as error:
                raise BrokerUnavailable(f"Redis does not accept messages ({type(error).__name__}).") from error

    def _publish_all(self, messages: list[tuple[list[str], str | None]], options: dict[str, Any]) -> None:
        """Publish in one pipeline.

        After an error, some messages may be in the queue, and the connection is discarded.
        """
        with self._app.producer_or_acquire() as producer:
            try:
                producer.connection.ensure_connection(max_retries=1, interval_start=0.1)
                with producer.batch() if len(messages) > 1 else nullcontext():
                    for ids, task_id in messages:
                        self._publish(producer, ids, task_id, options)
            except BaseException:
                producer.connection.collect()
                raise

    def _publish(self, producer: Any, ids: list[str], task_id: str | None, options: dict[str, Any]) -> None:
        self._app.send_task(
            args=[ids],
            task_id=task_id,
            producer=producer,
            argsrepr=repr_of(ids),
            kwargsrepr="{}",
            ignore_result=True,
            **options,
        )
