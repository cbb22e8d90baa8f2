"""The tasks of closings: a conversation was resolved, from a producer that speaks Celery; and the reconcile."""

import time
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from celery import Task

from tasks.base import again, wait_for_store
from tasks.privacy import PrivateRequest
from worker.bootstrap import service
from worker.celery import app
from worker.closings.accept import Accepted, Closings, LeftOut
from worker.closings.reconcile import Reconcile
from worker.domain.requests import ConversationResolved
from worker.domain.validation import json_type
from worker.errors import InvalidRequest, NotResolvedYet, SnapshotError, StoreUnavailable, TransientError
from worker.intake.entries import TASK_PREFIX, reject
from worker.log import get_logger
from worker.service import Receipt
from worker.sweep.schedule_lock import take_turn
from worker.telemetry.counters import LEFT_OUT

log = get_logger(__name__)

_LOOKS = 12
"""Attempts, spread over the time that a parent document is waited for, until an unresolved conversation is refused."""


@app.task(name="conversations.resolved", bind=True, max_retries=None, Request=PrivateRequest)
def resolved(self: Task[Any, Any], *args: Any, **kwargs: Any) -> None:
    """Accepts a closing, `{organizationId, conversationId}` as its only argument; what is refused, stands rejected."""
    began = time.monotonic()
    try:
        try:
            _take(_accept(args, kwargs))
        except NotResolvedYet as error:
            if self.request.retries + 1 < _LOOKS:
                raise again(self, None, error, _pause()) from error
            _reject(self, error, args, kwargs)
        except SnapshotError as error:
            if isinstance(error, TransientError):
                raise
            _reject(self, error, args, kwargs)
    except TransientError as error:
        if isinstance(error, StoreUnavailable):
            wait_for_store(began)
        raise again(self, None, error) from error


def _accept(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Accepted:
    if len(args) != 1 or kwargs:
        given = f"{len(args)} positional and {len(kwargs)} named"
        fault = f"should be one positional argument, a JSON object; there are {given}"
        raise InvalidRequest([{"field": "args", "message": fault}])
    if not isinstance(args[0], dict):
        raise InvalidRequest([{"field": "args.0", "message": f"should be a JSON object, it is {json_type(args[0])}"}])
    (answer,) = Closings(service()).accept([ConversationResolved.read(args[0], service().settings)])
    return answer


def _take(answer: Accepted) -> None:
    match answer:
        case Receipt():
            service().enqueue([answer])
        case LeftOut():
            if answer.first:
                LEFT_OUT.labels(answer.reason).inc()
            log.info("closing_left_out", reason=answer.reason)
        case _:
            raise answer


def _reject(task: Task[Any, Any], error: SnapshotError, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    reject(service(), error, {"args": list(args), "kwargs": kwargs}, f"{TASK_PREFIX}{task.request.id}")


def _pause() -> timedelta:
    """12 looks 5 s apart are the minute that a parent document is waited for."""
    return service().settings.parent_wait / _LOOKS


@app.task(name="conversations.reconcile")
def reconcile() -> None:
    """Accepts the closings of the last 48 hours that have no request. What fails now, the next one does."""
    try:
        if not take_turn(service(), "reconcile", service().settings.reconcile_interval):
            return
        done = asdict(Reconcile(service()).in_slices())
    except TransientError as error:
        log.warning("reconcile_incomplete", code=error.code, reason=error.message)
        return
    if done["accepted"]:
        log.info("reconciled", **done)
