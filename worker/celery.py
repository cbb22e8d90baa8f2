"""The Celery app, where `celery -A worker` looks for it."""

from celery import Celery

from worker.task_events import GatheredEvents

app = Celery("training-snapshots", loader="worker.loading:Loader")
app.config_from_object("celeryconfig")
app.steps["consumer"].add(GatheredEvents)

__all__ = ["app"]
