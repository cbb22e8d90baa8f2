"""What the tasks share: how a failed attempt is retried."""

import time
from datetime import timedelta
from typing import Any

from celery import Task

from worker.bootstrap import service
from worker.clock import milliseconds
from worker.domain.retries import backoff
from worker.errors import TransientError
from worker.stores.wakeups import STAMP, repr_of


def again(
    task: Task[Any, Any], ids: list[str] | None, error: TransientError, delay: timedelta | None = None
) -> Exception:
    """Publishes the next attempt of a task, as a Celery retry that shows the reason; the exception to raise.

    `ids`: the ledger entries left to do; None keeps the message's own arguments. Celery publishes first and
    acknowledges then; if the publish fails, however (see worker/celery_support/publisher.py), the message is gone,
    and the sweep repairs it.
    """
    own: dict[str, Any] = {"argsrepr": "..."} if ids is None else {"args": [ids], "argsrepr": repr_of(ids)}
    wait = delay or backoff(task.request.retries, service().settings)
    result: Exception = task.retry(
        exc=error, countdown=wait.total_seconds(), max_retries=None, throw=False, headers=_stamp(), **own
    )
    return result


def _stamp() -> dict[str, Any]:
    try:
        return {STAMP: milliseconds(service().clock.now())}
    except TransientError:
        return {}  # the sweep passes over messages without a stamp


def wait_for_store(began: float) -> None:
    """Waits inside the task until MongoDB answers: bouncing messages would mend nothing.

    Up to twice the run deadline from `began`, by the monotonic clock: the soft time limit comes 8 s later.
    """
    stop_at = began + 2 * service().settings.run_deadline.total_seconds()
    pause = 0.1
    while time.monotonic() < stop_at and not service().connections.store_answers():
        time.sleep(min(pause, max(0.0, stop_at - time.monotonic())))
        pause = min(2 * pause, 2.0)
