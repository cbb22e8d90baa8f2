"""The tasks that requests come through: a wake-up call, and a whole request from a producer that speaks Celery."""

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from bson import ObjectId
from celery import Task

from tasks.base import again, wait_for_store
from tasks.privacy import PrivateRequest
from worker.bootstrap import service
from worker.celery import app
from worker.domain.traceparent import TRACEPARENT, read_traceparent
from worker.errors import InvalidRequest, Refused, StoreUnavailable, TransientError
from worker.intake.entries import REQUEST, TASK_PREFIX, read_task, reject
from worker.log import get_logger
from worker.runs.batching import Neighbours
from worker.runs.commit import Postponed
from worker.runs.run import Run
from worker.stores.wakeups import CREATE, INTERACTIVE

log = get_logger(__name__)

_ON_SECONDS = 4.0
"""How long a task goes on with what waits beside its own message: well below a shutdown's patience."""
_PILE = 20
_neighbours = cache(Neighbours)


@app.task(name=CREATE, bind=True, max_retries=None, Request=PrivateRequest)
def create(self: Task[Any, Any], ids: Any) -> None:
    """Makes the snapshots of these ledger entries. What cannot be decided now is retried, with the reason."""
    began = time.monotonic()
    delivery: Any = self.request.delivery_info
    redelivered = bool(delivery.get("redelivered"))
    keys = _read_ids(ids)
    fresh = not (redelivered or self.request.retries) and delivery["routing_key"] == INTERACTIVE
    neighbours = _neighbours(service()) if fresh and keys else None
    if neighbours:
        keys = neighbours.join(keys)
    postponed: list[Postponed] = []
    while keys:
        postponed += _run(self, keys, redelivered, began)
        # Where requests pile up the ledger is the quicker queue: their own messages then cost a look each. A few are no
        # pile: to go on with those that come meanwhile would leave the messages of all of them where they are.
        goes_on = len(keys) >= _PILE and not postponed and time.monotonic() < began + _ON_SECONDS
        keys = neighbours.more() if neighbours and goes_on else []
    if postponed:
        raise _retry(self, postponed)


def _run(self: Task[Any, Any], keys: Sequence[ObjectId], redelivered: bool, began: float) -> list[Postponed]:
    """One chunk; what is to be tried again."""
    run = Run(service())
    try:
        outcome = run(keys, redelivered)
    except TransientError as error:
        if isinstance(error, StoreUnavailable):
            wait_for_store(began)
            run.end_counted()
        raise again(self, [str(key) for key in keys], error) from error
    log.info("requests_run", requests=len(keys), completed=outcome.completed, failed=outcome.failed)
    return outcome.postponed


def _retry(self: Task[Any, Any], postponed: Sequence[Postponed]) -> Exception:
    """The first as a retry of this message, which shows the reason; the others as messages of their own."""
    first, *others = postponed
    queue = str((self.request.delivery_info or {})["routing_key"])
    try:
        for other in others:
            _neighbours(service()).release(other.ids)
            service().publish(queue, [other.ids], service().clock.now(), other.delay)
    except TransientError as error:
        log.warning("enqueue_failed", requests=sum(len(each.ids) for each in others), reason=error.message)
    return again(self, first.ids, first.error, first.delay)


def _read_ids(ids: Any) -> list[ObjectId]:
    """A foreign producer may send anything; what is no list of ids is logged, without what it is."""
    if isinstance(ids, list) and all(isinstance(each, str) and ObjectId.is_valid(each) for each in ids):
        return [ObjectId(each) for each in ids]
    log.error("message_undecodable", reason="should have one argument, an array of ObjectIds")
    return []


@app.task(name=REQUEST, bind=True, max_retries=None, Request=PrivateRequest)
def request(self: Task[Any, Any], *args: Any, **kwargs: Any) -> None:
    """Accepts a whole request, one JSON object as its only positional argument; what is refused, stands rejected."""
    began = time.monotonic()
    try:
        try:
            asked = read_task(args, kwargs, str(self.request.id), service().settings)
            trace = read_traceparent(self.request.get(TRACEPARENT))
            service().submit(replace(asked, traceparent=trace))
        except (InvalidRequest, Refused) as error:
            reject(service(), error, {"args": list(args), "kwargs": kwargs}, f"{TASK_PREFIX}{self.request.id}")
    except TransientError as error:
        if isinstance(error, StoreUnavailable):
            wait_for_store(began)
        raise again(self, None, error) from error
