"""The Celery app, where `celery -A worker` looks for it."""

from celery import Celery

app = Celery("training-snapshots")
app.config_from_object("celeryconfig")

__all__ = ["app"]
