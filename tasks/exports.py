"""The task that runs slices of exports."""

from typing import Any

from bson import ObjectId
from celery import Task

from worker.bootstrap import service
from worker.celery import app
from worker.errors import InvalidRequest
from worker.exports.destination import open_destination
from worker.exports.export import Export
from worker.intake.entries import TASK_PREFIX, reject
from worker.jobs.job import TASKS, Job
from worker.jobs.slices import run_slice
from worker.jobs.store import Jobs

from .base import retry_transient_errors
from .privacy import PrivateRequest


@app.task(name=TASKS["export"][0], bind=True, max_retries=None, Request=PrivateRequest)
def export(self: Task[Any, Any], ids: Any) -> None:
    """Run one slice of an export. `ids`: its id, alone in a list."""
    with retry_transient_errors(self):
        try:
            key = _read_id(ids)
        except InvalidRequest as error:
            reject(service(), error, {"args": [ids], "kwargs": {}}, f"{TASK_PREFIX}{self.request.id}")
            return
        work = Export(service(), _destination)
        run_slice(Jobs(service()), key, str(self.request.hostname), work, work.clean_up)


def _destination(job: Job) -> Any:
    return open_destination(service().settings, job.id)


def _read_id(ids: Any) -> ObjectId:
    """Read the argument, which a foreign producer may get wrong. Raises InvalidRequest."""
    if isinstance(ids, list) and len(ids) == 1 and isinstance(ids[0], str) and ObjectId.is_valid(ids[0]):
        return ObjectId(ids[0])
    raise InvalidRequest([{"field": "args.0", "message": "should be an array with the id of one export"}])
