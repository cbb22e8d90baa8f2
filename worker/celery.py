"""The Celery app, where `celery -A worker` looks for it."""

import os
from functools import cached_property
from typing import Any

from celery import Celery
from celery.exceptions import SoftTimeLimitExceeded

from worker.celery_support import transport
from worker.celery_support.consumer import Heartbeat, KeyCheck
from worker.celery_support.event_batching import EventBatching
from worker.errors import TaskInterrupt

IGNORED = [
    name
    for name in ("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL", "CELERY_RESULT_BACKEND")
    if os.environ.pop(name, None)
]
"""Variables of another Celery project, which Celery would prefer to our settings: messages would go to its broker."""

TaskInterrupt.register(SoftTimeLimitExceeded)
transport.register()


class App(Celery):
    """Celery with our beat."""

    @cached_property
    def Beat(self) -> Any:  # noqa: N802 - Celery's name
        where: Any = "worker.celery_support.beat:Beat"
        return self.subclass_with_self(where)


app = App("training-snapshots", loader="worker.celery_support.loader:Loader")
app.config_from_object("celeryconfig")
app.steps["consumer"].update((EventBatching, Heartbeat, KeyCheck))

__all__ = ["IGNORED", "app"]
