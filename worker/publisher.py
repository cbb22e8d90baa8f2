"""Publishes wake-up calls through Celery."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from celery import Celery
from kombu.exceptions import KombuError, OperationalError
from redis.exceptions import RedisError

from worker.clock import milliseconds
from worker.errors import BrokerUnavailable
from worker.wakeups import CREATE, STAMP, repr_of


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
            "countdown": delay.total_seconds() if delay else None,
        }
        try:
            with self._app.producer_or_acquire() as producer:
                if len(messages) == 1 or not self._publish_batch(producer, messages, options):
                    for ids in messages:
                        self._publish(producer, ids, options)
        # RedisError: kombu lets a refusal through as it is (Redis is out of memory, or only reads).
        except (OperationalError, KombuError, RedisError, OSError) as error:
            raise BrokerUnavailable(f"Redis takes no messages ({type(error).__name__}).") from error

    def _publish_batch(self, producer: Any, messages: list[list[str]], options: dict[str, Any]) -> bool:
        """All in one pipeline; whether the broker took it.

        kombu does not repeat a failed batch, since some may be in the queue. A request that is woken up twice is
        done once, so here they are all published again, one by one, over a connection that Celery mends.
        """
        try:
            with producer.batch():
                for ids in messages:
                    self._publish(producer, ids, {**options, "retry": False})
        except (KombuError, RedisError, OSError):
            return False
        return True

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
