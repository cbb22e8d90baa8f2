"""The task that runs slices of exports."""

from typing import Any

from celery import Task

from worker.bootstrap import service
from worker.celery import app
from worker.exports.export import Export
from worker.exports.places import open_destination
from worker.jobs.job import TASKS

from .jobs import run_job_slice
from .privacy import PrivateRequest


@app.task(name=TASKS["export"][0], bind=True, max_retries=None, Request=PrivateRequest)
def export(self: Task[Any, Any], ids: Any) -> None:
    """Run one slice of an export. `ids`: its id, alone in a list."""
    work = Export(service(), lambda job: open_destination(service().settings, job.id))
    run_job_slice(self, ids, work, work.clean_up)
