"""One process of a reference, without a queue: `python -m benchmarks.reference_process loop|bulk|paced {...}`.

`paced` takes one at a time at a fixed rate, for the latency of the call itself.
"""

import json
import sys
from functools import partial
from typing import Any

from benchmarks.actors import perform
from benchmarks.dataset import Document, bodies
from benchmarks.pacing import evenly
from benchmarks.reference_job import CHUNK, ReferenceJob
from worker.settings import settings


def _loop(job: ReferenceJob, jobs: list[Document]) -> None:
    for each in jobs:
        job.one(each)


def _bulk(job: ReferenceJob, jobs: list[Document]) -> None:
    for first in range(0, len(jobs), CHUNK):
        job.chunk(jobs[first : first + CHUNK])


def main(kind: str, order: dict[str, Any]) -> None:
    """`order`: `count`, `contacts`, `tag`; `share` and `shares` of the jobs that are this process's; `rate`."""
    every = list(bodies(order["count"], order["contacts"], order["tag"]))
    jobs = every[order["share"] :: order["shares"]]
    job = ReferenceJob(settings().mongo_url)
    job.warm_up()
    if kind == "paced":
        perform(lambda: {"calls": evenly(jobs, order["rate"], job.one)})
    else:
        perform(partial(_loop if kind == "loop" else _bulk, job, jobs))


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
