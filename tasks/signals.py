"""What happens around the tasks: logs set up, ids bound, connections warm, dropped messages counted."""

import ctypes
import signal
import sys
from typing import Any

import structlog
from celery import signals

from worker import log
from worker.bootstrap import service
from worker.errors import TransientError
from worker.metrics import port as metrics_port
from worker.settings import settings
from worker.stores import indexes
from worker.stores.connections import Connections

_log = log.get_logger(__name__)
_PR_SET_PDEATHSIG = 1


@signals.setup_logging.connect
def _set_up_logging(**_: Any) -> None:
    log.configure(settings())


@signals.worker_init.connect
@signals.beat_init.connect
def _create_indexes(**_: Any) -> None:
    """Before any fork, so with connections that are closed again."""
    connections = Connections(settings())
    try:
        indexes.ensure(connections)
    except TransientError as error:
        _log.warning("indexes_later", code=error.code, reason=error.message)
    finally:
        connections.close()


@signals.worker_ready.connect  # the pool's processes are there: they have not its thread and its connections
@signals.beat_init.connect
def _serve_metrics(**_: Any) -> None:
    metrics_port.serve(settings())


@signals.worker_process_init.connect
def _end_with_the_parent(**_: Any) -> None:
    """A pool process whose parent was killed would wait for ever: Linux ends it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@signals.worker_process_init.connect
def _warm_up(**_: Any) -> None:
    """The first request finds its connections open."""
    try:
        service().clock.now()
        service().connections.redis.ping()
    except Exception as error:  # noqa: BLE001 - a server that is away at the start is met again by the first task
        _log.info("warm_up_failed", reason=type(error).__name__)


@signals.task_prerun.connect
def _bind_ids(task_id: str, task: Any, args: Any, **_: Any) -> None:
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(task_id=task_id, task=task.name)


@signals.task_postrun.connect
def _clear_ids(**_: Any) -> None:
    structlog.contextvars.clear_contextvars()


@signals.task_unknown.connect
def _note_unknown(name: str, id: str, **_: Any) -> None:  # noqa: A002 - the signal's own word
    _log.error("task_unknown", task=name, task_id=id)


@signals.task_rejected.connect
def _note_rejected(**_: Any) -> None:
    _log.error("message_undecodable")
