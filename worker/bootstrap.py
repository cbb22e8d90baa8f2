"""Puts the service together: real connections, and Celery to publish with. One a process."""

import os
from functools import cache

from worker.celery import app
from worker.celery_support.publisher import CeleryPublisher
from worker.service import Service
from worker.settings import Settings, settings
from worker.stores.connections import Connections
from worker.telemetry import tracing


def build(own: Settings) -> Service:
    """A service on these settings, whose broker Celery then publishes to."""
    app.conf.update(broker_url=own.redis_url)
    made = Service(Connections(own), CeleryPublisher(app))
    tracing.install(made)
    return made


def service() -> Service:
    """This process's service; a forked process makes its own."""
    return _service_of(os.getpid())


@cache
def _service_of(_: int) -> Service:
    return build(settings())
