"""A worker bootstep that sends Celery's task events in batches.

Celery publishes task events on each iteration of its event loop, which costs three round trips per message. Collecting
them for 50 ms lets a busy worker send two dozen at once, Celery's own limit. Each event keeps the time at which it
occurred. A worker that is killed loses the events of its last 50 ms.
https://docs.celeryq.dev/en/stable/userguide/extending.html
"""

from typing import Any

from celery import bootsteps
from celery.worker.consumer.events import Events

_DELAY_SECONDS = 0.05


class EventBatching(bootsteps.StartStopStep):
    """Flushes the worker's event dispatcher a moment after its first buffered event."""

    requires = (Events,)

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self._flush_scheduled = False

    def start(self, consumer: Any) -> None:
        """Hook into the event dispatcher, which each reconnect replaces."""
        dispatcher = consumer.event_dispatcher
        self._flush_scheduled = False

        def flush() -> None:
            self._flush_scheduled = False
            dispatcher.flush()

        def schedule_flush() -> None:
            if not self._flush_scheduled:
                self._flush_scheduled = True
                consumer.timer.call_after(_DELAY_SECONDS, flush)

        if dispatcher.on_send_buffered:  # None without an event loop: nothing is buffered then
            dispatcher.on_send_buffered = schedule_flush

    def stop(self, consumer: Any) -> None:
        """Send the remaining events."""
        if consumer.event_dispatcher:
            consumer.event_dispatcher.flush()
