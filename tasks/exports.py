"""The task that runs slices of exports."""

from typing import Any

from celery import Task

from worker.bootstrap import service
from worker.celery import app
from worker.errors import InvalidRequest
from worker.exports.export import Export
from worker.exports.places import open_destination
from worker.intake.entries import TASK_PREFIX, reject
from worker.jobs.job import TASKS, Job
from worker.jobs.slices import run_slice
from worker.jobs.store import Jobs

from .base import read_job_id, retry_transient_errors
from .privacy import PrivateRequest


@app.task(name=TASKS["export"][0], bind=True, max_retries=None, Request=PrivateRequest)
def export(self: Task[Any, Any], ids: Any) -> None:
    """Run one slice of an export. `ids`: its id, alone in a list."""
    with retry_transient_errors(self):
        try:
            key = read_job_id(ids)
        except InvalidRequest as error:
            reject(service(), error, {"args": [ids], "kwargs": {}}, f"{TASK_PREFIX}{self.request.id}")
            return
        work = Export(service(), _destination)
        run_slice(Jobs(service()), key, str(self.request.hostname), work, work.clean_up)


def _destination(job: Job) -> Any:
    return open_destination(service().settings, job.id)
