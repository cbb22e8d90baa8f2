"""The body that the tasks of all kinds of jobs share."""

from typing import Any

from bson import ObjectId
from celery import Task

from worker.bootstrap import service
from worker.errors import InvalidRequest
from worker.intake.entries import TASK_PREFIX, reject
from worker.jobs.slices import CleanUp, Work, run_slice
from worker.jobs.store import Jobs

from .base import retry_transient_errors


def run_job_slice(task: Task[Any, Any], ids: Any, work: Work, clean_up: CleanUp = lambda _: None) -> None:
    """Run one slice of a job.

    `ids`: a list with the job's id; anything else comes from another program and is rejected. `work` does the slice,
    and `clean_up` removes what a failed or cancelled job has written (`worker.jobs.slices`).
    """
    with retry_transient_errors(task):
        try:
            key = _read_id(ids)
        except InvalidRequest as error:
            reject(service(), error, {"args": [ids], "kwargs": {}}, f"{TASK_PREFIX}{task.request.id}")
            return
        run_slice(Jobs(service()), key, str(task.request.hostname), work, clean_up)


def _read_id(ids: Any) -> ObjectId:
    if isinstance(ids, list) and len(ids) == 1 and isinstance(ids[0], str) and ObjectId.is_valid(ids[0]):
        return ObjectId(ids[0])
    raise InvalidRequest([{"field": "args.0", "message": "should be an array with the id of one job"}])
