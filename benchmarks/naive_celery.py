"""Celery with its defaults: the reference's job as a task, with results in Redis.

As a module, the app (`celery -A benchmarks.naive_celery worker`). As a program, the producer:
`python -m benchmarks.naive_celery {...}` enqueues all, or at a fixed rate.
"""

import json
import os
import sys
import time
from functools import cache
from typing import Any

from celery import Celery

from benchmarks.actors import perform
from benchmarks.dataset import Document, bodies
from benchmarks.pacing import evenly
from benchmarks.reference_job import ReferenceJob
from worker.settings import settings

QUEUE = "naive"
MARKS = "BENCHMARKS_MARKS"
"""Environment variable with the file to which each task appends its request id and time at its end."""

app = Celery("naive", broker=settings().redis_url, backend=settings().redis_url)
app.conf.task_default_queue = QUEUE


@cache
def _job(_: int) -> ReferenceJob:
    return ReferenceJob(settings().mongo_url)


@cache
def _marks(_: int) -> int:
    return os.open(os.environ[MARKS], os.O_CREAT | os.O_APPEND | os.O_WRONLY)


@app.task(name="naive.create")
def create(job: Document) -> None:
    """Do one job, with the client of this process."""
    _job(os.getpid()).one(job)
    os.write(_marks(os.getpid()), f"{job['requestId']} {time.time():.6f}\n".encode())


def main(order: dict[str, Any]) -> None:
    """`order`: `count`, `contacts`, `tag`, and `rate` or null for as fast as it goes."""
    jobs = list(bodies(order["count"], order["contacts"], order["tag"]))
    app.connection_for_write().ensure_connection(max_retries=3)

    def enqueue_all() -> None:
        for job in jobs:
            create.delay(job)

    if order["rate"] is None:
        perform(enqueue_all)
    else:
        perform(lambda: {"calls": evenly(jobs, order["rate"], create.delay)})


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
