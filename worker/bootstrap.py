"""Builds the service of a process: real connections, and Celery as the publisher."""

import os
from functools import cache

from worker.celery import app
from worker.celery_support.publisher import CeleryPublisher
from worker.service import Service
from worker.settings import Settings, settings
from worker.stores.connections import Connections
from worker.telemetry.tracing import build_service


def build(configured: Settings) -> Service:
    """Build a service with connections of its own, and let Celery publish to the broker of these settings.

    Args:
        configured: The settings. They also replace the broker of the process's Celery app.

    Returns:
        A service that connects when it is first used. Close it with `connections.close()`.

    Example:
        service = build(load(mongo_url="mongodb://127.0.0.1:27018/?replicaSet=rs0"))
    """
    app.conf.update(configured.redis.celery_settings(app.conf.broker_transport_options))
    return build_service(Connections(configured), CeleryPublisher(app))


def service() -> Service:
    """Return the service of this process, on the settings of the environment. A forked process builds its own.

    Raises InvalidSettings when it is first called with settings that are not valid.
    """
    return _service_of(os.getpid())


@cache
def _service_of(_: int) -> Service:
    return build(settings())
