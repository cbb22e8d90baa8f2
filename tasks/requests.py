"""The tasks that process requests: one for a wake-up, and one for a whole request from a Celery producer."""

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from bson import ObjectId
from celery import Task

from worker.bootstrap import service
from worker.celery import app
from worker.celery_support.message_format import NOT_BEFORE, read_time
from worker.domain.ledger_entry import Failure
from worker.domain.task_failure import task_failure
from worker.domain.traceparent import TRACEPARENT, read_traceparent
from worker.errors import InvalidRequest, TransientError
from worker.intake.entries import REQUEST, TASK_PREFIX, read_task, reject
from worker.log import get_logger
from worker.runs.batching import BACKLOG, Batching
from worker.runs.commit import Postponed, RunResult
from worker.runs.run import Run
from worker.stores.wakeups import BULK, CREATE, INTERACTIVE

from .base import ProducerTask, RequestTask, as_retry, retry_transient_errors
from .privacy import PrivateRequest

log = get_logger(__name__)

_CONTINUE_SECONDS = 4.0
"""How long a task continues with other waiting requests. Well below the time that a shutdown allows."""
_MAX_IDS = 1000
"""Maximum number of ledger ids in one message. Our own messages have at most 500."""
_batching = cache(Batching)


@app.task(name=CREATE, base=RequestTask, bind=True, max_retries=None, Request=PrivateRequest)
def create(self: Task[Any, Any], ids: Any) -> None:
    """Create the snapshots of these ledger entries. Requests that cannot be decided now are retried, with the reason.

    Args:
        ids: A list of ledger ids, 24 hex digits each. Anything else comes from another program and is rejected.

    Raises:
        Retry: Requests are postponed; the next attempt is published already.
        RequestFailed: A request has failed, so that the task ends in the state FAILURE. The ledger has the reason, and
            the undecided requests are retried by messages of their own.
    """
    began = time.monotonic()
    delivery: Any = self.request.delivery_info
    with retry_transient_errors(self):
        try:
            keys = _read_ids(ids)
        except InvalidRequest as error:
            reject(service(), error, {"args": [ids], "kwargs": {}}, f"{TASK_PREFIX}{self.request.id}")
            return
    fresh = not (delivery.get("redelivered") or self.request.retries) and delivery["routing_key"] == INTERACTIVE
    batching = _batching(service()) if fresh and keys else None
    own = set(keys)
    if batching:
        keys = batching.join(keys)
    postponed: list[Postponed] = []
    failures: dict[ObjectId, Failure] = {}
    while keys:
        result = _run(self, keys)
        postponed += result.postponed
        failures |= {key: failure for key, failure in result.failures.items() if key in own}
        others = [key for key in result.failures if key not in own]
        if batching and others:
            _report_failures(batching, others)
        # In a backlog, reading requests from the ledger is faster; each of their messages then costs only one lookup.
        # With few requests it would not be worth that lookup.
        is_done = not (postponed or failures)
        continues = len(keys) >= BACKLOG and is_done and time.monotonic() < began + _CONTINUE_SECONDS
        keys = batching.more() if batching and continues else []
    if failures:
        _publish(self, postponed)
        raise task_failure(failures, len(own))
    if postponed:
        raise _retry(self, postponed)


def _run(self: Task[Any, Any], keys: Sequence[ObjectId]) -> RunResult:
    """Run one chunk."""
    with retry_transient_errors(self, keys):
        result = Run(service())(keys)
    log.info("requests_run", requests=len(keys), completed=result.completed, failed=result.failed)
    return result


def _report_failures(batching: Batching, keys: Sequence[ObjectId]) -> None:
    """Report failures of requests that ran before their messages arrived.

    If Redis is down, Flower does not show them.
    """
    try:
        batching.report_failures(keys)
    except TransientError as error:
        log.warning("failures_not_reported", requests=len(keys), reason=error.message)


def _retry(self: Task[Any, Any], postponed: Sequence[Postponed]) -> Exception:
    """Publish the first group as a retry of this message, which shows the reason, and the others as new messages."""
    first, *others = postponed
    _publish(self, others)
    return as_retry(self, first.ids, first.error, first.delay)


def _publish(self: Task[Any, Any], postponed: Sequence[Postponed]) -> None:
    """Publish new messages for requests to be tried again. If Redis is down, the sweep does it later."""
    queue = str((self.request.delivery_info or {})["routing_key"])
    try:
        for each in postponed:
            _batching(service()).release(each.ids)
            service().publish(queue, [each.ids], service().clock.now(), each.delay)
    except TransientError as error:
        log.warning("enqueue_failed", requests=sum(len(each.ids) for each in postponed), reason=error.message)


def _read_ids(ids: Any) -> list[ObjectId]:
    """Validate the argument, which may come from another program. Raises InvalidRequest."""
    if not isinstance(ids, list) or len(ids) > _MAX_IDS:
        raise InvalidRequest([{"field": "args.0", "message": f"should be an array of at most {_MAX_IDS} ledger ids"}])
    if not all(isinstance(key, str) and ObjectId.is_valid(key) for key in ids):
        raise InvalidRequest([{"field": "args.0", "message": "should hold ids of 24 hexadecimal digits only"}])
    return [ObjectId(key) for key in ids]


@app.task(name=REQUEST, base=ProducerTask, bind=True)
def request(self: ProducerTask, *args: Any, **kwargs: Any) -> None:
    """Accept a whole request from a Celery producer. An invalid or refused request is recorded as rejected.

    The only argument is a JSON object, given by position, as docs/schemas/snapshots.request.json describes it. Without
    a `requestId`, the request id is derived from the task's id, so that a redelivered message is the same request. A
    request with an `eta` is accepted immediately, and run then.

    Example:
        data = {"organizationId": organization, "contactId": contact}
        app.send_task("snapshots.request", args=[data], queue="snapshots")
    """
    delivery: Any = self.request.delivery_info or {}
    with self.recorded(args, kwargs):
        queue = BULK if delivery.get("routing_key") == BULK else INTERACTIVE
        new = read_task(args, kwargs, str(self.request.id), service().settings, queue)
        trace, not_before = read_traceparent(self.request.get(TRACEPARENT)), read_time(self.request.get(NOT_BEFORE))
        service().submit(replace(new, traceparent=trace, not_before=not_before))
