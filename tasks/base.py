"""Ends failed attempts of tasks: with a Celery retry, or with the state FAILURE."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

from bson import ObjectId
from celery import Task
from celery.exceptions import Reject, SoftTimeLimitExceeded, TaskPredicate

from worker.bootstrap import service
from worker.celery_support.message_format import NOT_BEFORE
from worker.clock import milliseconds
from worker.domain.retries import backoff
from worker.domain.traceparent import TRACEPARENT
from worker.errors import (
    DeadlineExceeded,
    RequestFailed,
    SnapshotError,
    StoreUnavailable,
    TransientError,
    UnexpectedError,
)
from worker.intake.entries import TASK_PREFIX, reject
from worker.log import get_logger
from worker.stores.wakeups import STAMP, repr_of

from .privacy import PrivateRequest

log = get_logger(__name__)


class RequestTask(Task[Any, Any]):
    """A task that ends in the state FAILURE, with RequestFailed, if a request of its message has failed.

    The failure is already in the ledger, and the message is acknowledged as usual. The log gets one line.
    """

    throws = (RequestFailed,)

    def on_failure(self, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Replace the traceback, which would only show this package, by the list of failed requests."""
        if isinstance(exc, RequestFailed):
            einfo.traceback = exc.listing


class ProducerTask(Task[Any, Any]):
    """A task whose message holds what a Celery producer sent: a request or closing that is stored nowhere else yet.

    The message goes back to its queue if the process that runs it is killed, even by the hard time limit, and is
    recorded as rejected if it cannot be accepted.
    """

    max_retries = None
    reject_on_worker_lost = True
    acks_on_timeout = False
    Request = PrivateRequest  # type: ignore[assignment]  # the stubs expect a dotted name, which Celery takes as well

    @contextmanager
    def recorded(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Iterator[None]:
        """Record the message as rejected after an error in the block, or retry the task after a transient one."""
        with retry_transient_errors(self):
            try:
                yield
            except (TransientError, SoftTimeLimitExceeded, TaskPredicate):
                raise
            except SnapshotError as error:
                self.reject(error, args, kwargs)
            except Exception as error:
                log.exception("task_failed", code=UnexpectedError.code)
                self.reject(UnexpectedError(f"Unexpected {type(error).__name__}."), args, kwargs)

    def reject(self, error: SnapshotError, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Record the message as rejected, with the reason. Raises BrokerUnavailable."""
        reject(service(), error, {"args": list(args), "kwargs": kwargs}, f"{TASK_PREFIX}{self.request.id}")


@contextmanager
def retry_transient_errors(task: Task[Any, Any], ids: Sequence[ObjectId] | None = None) -> Iterator[None]:
    """Turn transient errors and the soft time limit into a retry of the task.

    `ids`: the ids of the unfinished ledger entries; None keeps the message's own arguments. While MongoDB is
    unreachable, the task first waits for it, up to twice the run deadline from its beginning, because an immediate
    retry would fail again.
    """
    began = time.monotonic()
    left = None if ids is None else [str(key) for key in ids]
    try:
        yield
    except SoftTimeLimitExceeded as error:
        raise as_retry(task, left, DeadlineExceeded()) from error
    except TransientError as error:
        if isinstance(error, StoreUnavailable):
            with suppress(SoftTimeLimitExceeded):
                _wait_for_store(began)
        raise as_retry(task, left, error) from error


def as_retry(
    task: Task[Any, Any], ids: list[str] | None, error: TransientError, delay: timedelta | None = None
) -> Exception:
    """Publish the next attempt of a task as a Celery retry that shows the reason; return the exception to raise.

    Celery first publishes the retry and then acknowledges the message.

    Args:
        task: The task, bound to the current message.
        ids: The ids of the unfinished ledger entries. None keeps the arguments of the message.
        error: The reason, which Flower shows.
        delay: The time until the next attempt. None: exponential backoff by the number of retries.

    Raises:
        Reject: The retry could not be published. A wake-up is dropped, because the sweep enqueues it again. The message
            of a producer goes back to its queue, because what it holds may be stored nowhere else.
    """
    own: dict[str, Any] = {"argsrepr": "..."} if ids is None else {"args": [ids], "argsrepr": repr_of(ids)}
    wait = delay or backoff(task.request.retries, service().settings)
    try:
        result: Exception = task.retry(
            exc=error, countdown=wait.total_seconds(), max_retries=None, throw=False, headers=_headers(task), **own
        )
    except Reject as rejection:
        if not isinstance(task, ProducerTask):
            raise
        raise Reject(error.message, requeue=True) from rejection
    return result


def _headers(task: Task[Any, Any]) -> dict[str, Any]:
    """Return the headers of a retry: a stamp, and those that belong to the request."""
    kept = {name: value for name in (TRACEPARENT, NOT_BEFORE) if (value := getattr(task.request, name, None))}
    try:
        return {STAMP: milliseconds(service().clock.now()), **kept}
    except TransientError:
        return kept  # the sweep skips messages without a stamp


def _wait_for_store(began: float) -> None:
    """Wait until MongoDB answers, for up to twice the run deadline from `began`. The soft time limit comes later."""
    stop_at = began + 2 * service().settings.run_deadline.total_seconds()
    pause = 0.1
    while time.monotonic() < stop_at and not service().connections.store_answers():
        time.sleep(min(pause, max(0.0, stop_at - time.monotonic())))
        pause = min(2 * pause, 2.0)
