"""Builds the service of a process: real connections, and Celery as the publisher."""

import os
from functools import cache
from typing import Any

from worker.service import Service
from worker.settings import Settings, settings
from worker.stores.connections import Connections
from worker.stores.wakeups import Publish
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
    return build_service(Connections(configured), _publisher(configured))


def build_for_command(configured: Settings) -> Service:
    """Build a service that imports Celery when it publishes its first message.

    The import takes a fifth of a second, and most commands publish nothing.
    """
    publish: list[Publish] = []

    def publish_later(*args: Any, **options: Any) -> None:
        if not publish:
            publish.append(_publisher(configured))
        publish[0](*args, **options)

    return build_service(Connections(configured), publish_later)


def _publisher(configured: Settings) -> Publish:
    from worker.celery import app
    from worker.celery_support.publisher import CeleryPublisher

    app.conf.update(configured.redis.celery_settings(app.conf.broker_transport_options))
    return CeleryPublisher(app)


def service() -> Service:
    """Return the service of this process, on the settings of the environment. A forked process builds its own.

    Raises InvalidSettings when it is first called with settings that are not valid.
    """
    return _service_of(os.getpid())


@cache
def _service_of(_: int) -> Service:
    return build(settings())
