"""The Celery app, where `celery -A worker` looks for it."""

from celery import Celery

from worker.celery_support.event_batching import GatheredEvents

app = Celery("training-snapshots", loader="worker.celery_support.loader:Loader")
app.config_from_object("celeryconfig")
app.steps["consumer"].add(GatheredEvents)

__all__ = ["app"]
