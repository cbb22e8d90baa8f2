"""The task that runs slices of exports."""

from typing import Any

from celery import Task

from worker.bootstrap import service
from worker.celery import app
from worker.exports.export import Export
from worker.exports.places import open_destination
from worker.exports.selection import Selection
from worker.jobs.job import TASKS, Job

from .jobs import run_job_slice
from .privacy import PrivateRequest


@app.task(name=TASKS["export"][0], bind=True, max_retries=None, Request=PrivateRequest)
def export(self: Task[Any, Any], ids: Any) -> None:
    """Run one slice of an export. `ids`: a list with the export's id."""
    work = Export(service(), lambda job: open_destination(service().settings, job.id))
    run_job_slice(self, ids, work, lambda job: _clean_up(work, job))


def _clean_up(work: Export, job: Job) -> None:
    """Remove the files of a job, unless a command has written them, which `worker.exports.leftovers` removes."""
    if job.is_local:
        Selection(service().connections, job.id).remove()
    else:
        work.clean_up(job)
