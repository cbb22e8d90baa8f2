"""Publishes wake-up calls through Celery."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from celery import Celery
from kombu.exceptions import OperationalError

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
        headers = {STAMP: milliseconds(at)}
        try:
            with self._app.producer_or_acquire() as producer:
                for chunk in chunks:
                    self._app.send_task(
                        CREATE,
                        args=[list(chunk)],
                        queue=queue,
                        headers=headers,
                        countdown=delay.total_seconds() if delay else None,
                        producer=producer,
                        argsrepr=repr_of(chunk),
                        kwargsrepr="{}",
                        ignore_result=True,
                    )
        except (OperationalError, OSError) as error:
            raise BrokerUnavailable(f"Redis takes no messages ({type(error).__name__}).") from error
