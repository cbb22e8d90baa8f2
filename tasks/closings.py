"""The tasks for closings: one that accepts a resolved conversation from a Celery producer, and the reconcile."""

from dataclasses import asdict
from datetime import timedelta
from typing import Any

from worker.bootstrap import service
from worker.celery import app
from worker.closings.accept import Closings
from worker.closings.reconcile import Reconcile
from worker.closings.results import Skipped
from worker.errors import NotResolvedYet, TransientError
from worker.intake.entries import CLOSING, read_closing_task
from worker.log import get_logger
from worker.sweep.schedule_lock import acquire_schedule_lock

from .base import ProducerTask, as_retry

log = get_logger(__name__)

_ATTEMPTS = 12
"""How often a closing of an unresolved conversation is tried, during SNAPSHOTS_PARENT_WAIT, before it is rejected."""


@app.task(name=CLOSING, base=ProducerTask, bind=True)
def resolved(self: ProducerTask, *args: Any, **kwargs: Any) -> None:
    """Accept a closing from a Celery producer. An invalid one is recorded as rejected.

    Example:
        closing = {"organizationId": organization, "conversationId": conversation}
        app.send_task("conversations.resolved", args=[closing], queue="snapshots")
    """
    with self.recorded(args, kwargs):
        try:
            _accept(args, kwargs)
        except NotResolvedYet as error:
            if self.request.retries + 1 < _ATTEMPTS:
                raise as_retry(self, None, error, _pause()) from error
            self.reject(error, args, kwargs)


def _accept(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    result = Closings(service()).submit_one(read_closing_task(args, kwargs, service().settings))
    if isinstance(result, Skipped):
        log.info("closing_skipped", reason=result.reason)


def _pause() -> timedelta:
    """Return the wait between attempts: 5 s if SNAPSHOTS_PARENT_WAIT is a minute."""
    return service().settings.parent_wait / _ATTEMPTS


@app.task(name="conversations.reconcile")
def reconcile() -> None:
    """Accept the closings of the last 48 hours that have no request. After an error, the next run continues."""
    try:
        if acquire_schedule_lock(service(), "reconcile", service().settings.reconcile_interval) is None:
            return
        result = Reconcile(service()).run_slice()
    except TransientError as error:
        log.warning("reconcile_incomplete", code=error.code, reason=error.message)
        return
    if result.accepted:
        log.info("reconciled", **asdict(result))
