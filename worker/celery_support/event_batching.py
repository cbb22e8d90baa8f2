"""Celery's task events, for Flower, gathered for a moment: a bootstep of the worker.

Celery publishes them at every turn of its event loop, three round trips a message. Gathered for 50 ms, a busy
worker sends two dozen at once (Celery's limit). An event has the time it was made; a killed worker's last are lost.
https://docs.celeryq.dev/en/stable/userguide/extending.html
"""

from typing import Any

from celery import bootsteps
from celery.worker.consumer.events import Events

_SECONDS = 0.05


class GatheredEvents(bootsteps.StartStopStep):
    """Sends what the worker's event dispatcher has gathered, a moment after the first of it."""

    requires = (Events,)

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self._waiting = False

    def start(self, consumer: Any) -> None:
        """After every connect: the dispatcher is a new one."""
        dispatcher = consumer.event_dispatcher
        self._waiting = False

        def flush() -> None:
            self._waiting = False
            dispatcher.flush()

        def gathered() -> None:
            if not self._waiting:
                self._waiting = True
                consumer.timer.call_after(_SECONDS, flush)

        if dispatcher.on_send_buffered:  # None where there is no event loop: nothing is gathered there
            dispatcher.on_send_buffered = gathered

    def stop(self, consumer: Any) -> None:
        """The last ones."""
        if consumer.event_dispatcher:
            consumer.event_dispatcher.flush()
