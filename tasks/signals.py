"""Celery signal handlers: logging, indexes, metrics, warm connections and the log context."""

import ctypes
import signal
import sys
import time
from collections.abc import Mapping
from traceback import format_tb
from typing import Any

import billiard
import structlog
from celery import signals

from worker import log
from worker.bootstrap import build, service
from worker.celery import IGNORED
from worker.celery_support import outages
from worker.erasure import log as erasure_log
from worker.erasure.receipt import check_signing_key
from worker.erasure.restoring import restore
from worker.errors import SnapshotError, TransientError
from worker.exports.places import fault_of_folder
from worker.metrics import port as metrics_port
from worker.settings import settings
from worker.startup.files import require_files
from worker.startup.process import prepare_or_exit
from worker.stores import indexes
from worker.stores.connections import Connections, broker_errors
from worker.stores.wakeups import EXPORTS
from worker.telemetry.tracing import check_variables

_log = log.get_logger(__name__)
_PR_SET_PDEATHSIG = 1
_PAUSE_SECONDS = 1.0


@signals.setup_logging.connect
def _set_up_logging(**_: Any) -> None:
    log.configure(settings())
    outages.shorten()


@signals.celeryd_init.connect
def _check_files(options: Mapping[str, Any], **_: Any) -> None:
    """End a worker that could not write its files or start its pool; `worker.celery_support.beat` checks beat's."""
    require_files({f"--{name}": options.get(name) for name in ("pidfile", "statedb")})
    if "prefork" in str(options.get("pool", "prefork")):
        try:
            billiard.Lock()
        except OSError as error:
            reason = f"no semaphore can be created ({error.strerror}); on Linux they are files in /dev/shm"
            advice = "let this user write there, free space, or use -P solo"
            print(f"Error: the prefork pool cannot start: {reason}: {advice}.", file=sys.stderr)
            raise SystemExit(2) from None


@signals.worker_init.connect
@signals.beat_init.connect
def _check_servers(**_: Any) -> None:
    """Exit if a server or a file cannot be used and waiting will not help.

    Create indexes before the pool forks, unless MongoDB is down. Celery would log any other error and go on.
    """
    try:
        _prepare()
    except SnapshotError as error:
        print(f"Error: {error.message}", file=sys.stderr)
        raise SystemExit(2) from None
    except Exception:  # noqa: BLE001 - it is logged, and ends the process
        _log.exception("start_failed")
        raise SystemExit(1) from None


def _prepare() -> None:
    log.configure(settings())  # Celery does so only later, for a worker after its banner
    for name in IGNORED:
        _log.warning("unknown_setting", variable=name, nearest="SNAPSHOTS_REDIS_URL" if "BROKER" in name else None)
    if prepare_or_exit(settings()):
        _create_indexes()
    check_signing_key(settings())
    check_variables(settings())
    if settings().erasure_log:
        _restore_erasures()


@signals.celeryd_after_setup.connect
def _check_exports(instance: Any, **_: Any) -> None:
    """Warn if this worker runs exports and could not write them. Others may lack the folder."""
    if EXPORTS in instance.app.amqp.queues.consume_from and (fault := fault_of_folder(settings())):
        _log.warning("exports_cannot_be_written", reason=fault)


def _restore_erasures() -> None:
    """Erase contacts again that a restored backup has brought back. Waits for MongoDB: nothing may run before it.

    Raises InvalidSettings.
    """
    own = build(settings())
    try:
        while True:
            try:
                erasure_log.check(own.settings)
                restore(own)
            except TransientError as error:
                _log.warning("erasures_not_restored_yet", code=error.code, reason=error.message)
                time.sleep(_PAUSE_SECONDS)
            else:
                return
    finally:
        own.connections.close()


def _create_indexes() -> None:
    connections = Connections(settings())
    try:
        indexes.ensure(connections)
    except TransientError as error:
        _log.warning("indexes_postponed", code=error.code, reason=error.message)
    finally:
        connections.close()


@signals.worker_ready.connect  # after the fork: pool processes inherit neither the thread nor its connections
@signals.beat_init.connect
def _serve_metrics(**_: Any) -> None:
    metrics_port.serve(settings())


@signals.worker_process_init.connect
def _end_with_the_parent(**_: Any) -> None:
    """Ask Linux to kill this pool process if its parent is killed. Otherwise it would wait forever."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@signals.worker_process_init.connect
def _warm_up(**_: Any) -> None:
    """Open connections to the servers before the first request needs them."""
    try:
        service().clock.now()
        with broker_errors():
            service().connections.redis.ping()
    except TransientError as error:  # the first task reports a server that is still down
        _log.info("warm_up_failed", code=error.code, reason=error.message)
    except Exception as error:  # noqa: BLE001 - a pool process must not end because of it
        _log.warning("warm_up_failed", reason=type(error).__name__, at=format_tb(error.__traceback__))


@signals.task_prerun.connect
def _bind_ids(task_id: str, task: Any, args: Any, **_: Any) -> None:
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(task_id=task_id, task=task.name)


@signals.task_postrun.connect
def _clear_ids(**_: Any) -> None:
    structlog.contextvars.clear_contextvars()
