"""The task that runs slices of backfills."""

from typing import Any

from celery import Task

from worker.backfills.backfill import Backfill
from worker.bootstrap import service
from worker.celery import app
from worker.jobs.job import TASKS

from .jobs import run_job_slice
from .privacy import PrivateRequest

_PAGES = 5
"""Maximum number of pages in a slice: a second of work, because interactive requests may wait for the same process."""


@app.task(name=TASKS["backfill"][0], bind=True, max_retries=None, Request=PrivateRequest)
def backfill(self: Task[Any, Any], ids: Any) -> None:
    """Run one slice of a backfill. `ids`: a list with the backfill's id."""
    run_job_slice(self, ids, Backfill(service(), _PAGES))
