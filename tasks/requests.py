"""The tasks that requests come through: a wake-up call, and a whole request from a producer that speaks Celery."""

import time
from collections.abc import Sequence
from typing import Any

from bson import ObjectId
from celery import Task

from tasks.base import again, wait_for_store
from tasks.privacy import PrivateRequest
from worker.bootstrap import service
from worker.celery import app
from worker.errors import InvalidRequest, Refused, StoreUnavailable, TransientError
from worker.intake import REQUEST, TASK_PREFIX, read_task, reject
from worker.log import get_logger
from worker.neighbours import with_neighbours
from worker.running import Run
from worker.wakeups import CREATE, INTERACTIVE

log = get_logger(__name__)


@app.task(name=CREATE, bind=True, max_retries=None, Request=PrivateRequest)
def create(self: Task[Any, Any], ids: Any) -> None:
    """Makes the snapshots of these ledger entries. What cannot be decided now is retried, with the reason."""
    began = time.monotonic()
    delivery: Any = self.request.delivery_info
    redelivered = bool(delivery.get("redelivered"))
    keys: Sequence[ObjectId] = _read_ids(ids)
    if len(keys) == 1 and delivery["routing_key"] == INTERACTIVE and not (redelivered or self.request.retries):
        keys = with_neighbours(service(), keys[0])
    if not keys:
        return
    ids = [str(key) for key in keys]
    run = Run(service())
    try:
        outcome = run(keys, redelivered)
    except TransientError as error:
        if isinstance(error, StoreUnavailable):
            wait_for_store(began)
            run.end_counted()
        raise again(self, ids, error) from error
    log.info("requests_run", requests=len(ids), completed=outcome.completed, failed=outcome.failed)
    if outcome.postponed:
        first, *others = outcome.postponed
        try:
            for other in others:
                service().publish(str(delivery["routing_key"]), [other.ids], service().clock.now(), other.delay)
        except TransientError as error:
            log.warning("enqueue_failed", requests=sum(len(each.ids) for each in others), reason=error.message)
        raise again(self, first.ids, first.error, first.delay)


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
            service().submit(read_task(args, kwargs, str(self.request.id), service().settings))
        except (InvalidRequest, Refused) as error:
            reject(service(), error, {"args": list(args), "kwargs": kwargs}, f"{TASK_PREFIX}{self.request.id}")
    except TransientError as error:
        if isinstance(error, StoreUnavailable):
            wait_for_store(began)
        raise again(self, None, error) from error
