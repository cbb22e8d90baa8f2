"""The task that runs slices of erasures."""

from typing import Any

from celery import Task

from worker.bootstrap import service
from worker.celery import app
from worker.erasure.erasure import Erasure
from worker.jobs.job import TASKS
from worker.jobs.store import Jobs

from .jobs import run_job_slice
from .privacy import PrivateRequest


@app.task(name=TASKS["erasure"][0], bind=True, max_retries=None, Request=PrivateRequest)
def erase(self: Task[Any, Any], ids: Any) -> None:
    """Run one slice of an erasure. `ids`: a list with the erasure's id."""
    work = Erasure(Jobs(service()))
    run_job_slice(self, ids, work, work.clean_up)
