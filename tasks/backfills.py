"""The task that runs slices of backfills."""

from typing import Any

from celery import Task

from worker.backfills.backfill import Backfill
from worker.bootstrap import service
from worker.celery import app
from worker.errors import InvalidRequest
from worker.intake.entries import TASK_PREFIX, reject
from worker.jobs.job import TASKS
from worker.jobs.slices import run_slice
from worker.jobs.store import Jobs

from .base import read_job_id, retry_transient_errors
from .privacy import PrivateRequest

_PAGES = 5
"""Pages of a slice: a second's work at most, because interactive requests may wait for the same process."""


@app.task(name=TASKS["backfill"][0], bind=True, max_retries=None, Request=PrivateRequest)
def backfill(self: Task[Any, Any], ids: Any) -> None:
    """Run one slice of a backfill. `ids`: its id, alone in a list."""
    with retry_transient_errors(self):
        try:
            key = read_job_id(ids)
        except InvalidRequest as error:
            reject(service(), error, {"args": [ids], "kwargs": {}}, f"{TASK_PREFIX}{self.request.id}")
            return
        work = Backfill(service(), _PAGES)
        run_slice(Jobs(service()), key, str(self.request.hostname), work, lambda _: None)
