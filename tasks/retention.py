"""The task that runs slices of retention jobs, which remove snapshots by age."""

from typing import Any

from celery import Task

from worker.bootstrap import service
from worker.celery import app
from worker.jobs.job import TASKS
from worker.jobs.store import Jobs
from worker.sweep.expiry import ExpiryJob

from .jobs import run_job_slice
from .privacy import PrivateRequest


@app.task(name=TASKS["retention"][0], bind=True, max_retries=None, Request=PrivateRequest)
def expire(self: Task[Any, Any], ids: Any) -> None:
    """Run one slice of a retention job. `ids`: a list with the job's id."""
    work = ExpiryJob(Jobs(service()))
    run_job_slice(self, ids, work, work.clean_up)
