"""The Celery app, where `celery -A worker` looks for it."""

from celery import Celery
from celery.exceptions import SoftTimeLimitExceeded

from worker.celery_support import transport
from worker.celery_support.consumer import Heartbeat
from worker.celery_support.event_batching import EventBatching
from worker.errors import TaskInterrupt

TaskInterrupt.register(SoftTimeLimitExceeded)
transport.register()

app = Celery("training-snapshots", loader="worker.celery_support.loader:Loader")
app.config_from_object("celeryconfig")
app.steps["consumer"].update((EventBatching, Heartbeat))

__all__ = ["app"]
