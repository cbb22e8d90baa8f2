"""Builds the service of a process: real connections, and Celery as the publisher."""

import os
from functools import cache

from worker.celery import app
from worker.celery_support.publisher import CeleryPublisher
from worker.service import Service
from worker.settings import Settings, settings
from worker.stores.connections import Connections
from worker.telemetry.tracing import build_service


def build(own: Settings) -> Service:
    """Build a service on these settings, and let Celery publish to their broker."""
    app.conf.update(own.redis.celery_settings(app.conf.broker_transport_options))
    return build_service(Connections(own), CeleryPublisher(app))


def service() -> Service:
    """Return the service of this process; a forked process builds its own."""
    return _service_of(os.getpid())


@cache
def _service_of(_: int) -> Service:
    return build(settings())
