"""One slice of a job: claim it, work for some seconds, and enqueue the next slice."""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any

from bson import ObjectId
from pymongo.client_session import ClientSession

from worker.errors import (
    InvalidSettings,
    NotFound,
    PermanentError,
    Refused,
    SnapshotError,
    TaskInterrupt,
    TransientError,
)
from worker.jobs.job import CANCELLED, FAILED, Job
from worker.jobs.store import Jobs, LeaseLost
from worker.log import get_logger

log = get_logger(__name__)


class Slice:
    """The part of a job that one Celery message works on, for about `SNAPSHOTS_RUN_DEADLINE`.

    The work reads and changes `progress` and `checkpoint`, and calls `save` after each part that it has finished.
    """

    def __init__(self, jobs: Jobs, job: Job) -> None:
        self._jobs = jobs
        self.job = job
        self.progress: dict[str, Any] = dict(job.progress or {})
        self.checkpoint: dict[str, Any] = dict(job.checkpoint or {})
        self.pause: timedelta | None = None
        """How long to wait before the next slice, if there is nothing to do now."""
        self.begin()

    def begin(self) -> None:
        """Start the slice's time limit. Called again, it starts another slice under the same claim."""
        self._ends = time.monotonic() + self._jobs.service.settings.run_deadline.total_seconds()

    @property
    def is_over(self) -> bool:
        """Whether the time of this slice is used up. If so, the work should save and return."""
        return time.monotonic() > self._ends

    def check(self) -> None:
        """Raise LeaseLost if the job was cancelled or is no longer claimed by this slice."""
        self._jobs.check(self.job)

    def save(self, session: ClientSession | None = None) -> None:
        """Store `progress` and `checkpoint` once a part of the work is finished. Raises LeaseLost."""
        self._jobs.save(self.job, self.progress, self.checkpoint, session)


Work = Callable[[Slice], Mapping[str, Any] | None]
"""Works until the slice is over. Returns the job's result once the job is done, and None before.

A PermanentError or Refused fails the job. Any other error ends only the slice, and the job is tried again.
"""


CleanUp = Callable[[Job], None]
"""Removes everything that a failed or cancelled job has written."""


def run_slice(jobs: Jobs, key: ObjectId, owner: str, work: Work, clean_up: CleanUp, *, local: bool = False) -> None:
    """Claim a job, work on it for one slice, and enqueue the next slice.

    Does nothing if the job is completed or another slice has claimed it.

    Args:
        jobs: The store of jobs.
        key: The id of the job.
        owner: The name of the worker, which is stored with the claim.
        work: Does the work of one slice.
        clean_up: Removes everything that a failed or cancelled job has written.
        local: Whether a command runs the job in its own process, so that no next slice is enqueued.

    Raises:
        TransientError: A server is down; the slice should be retried.
    """
    job = jobs.claim(key, owner, local=local)
    if job is None:
        _clean_up(jobs, key, clean_up)
        return
    try:
        _run(jobs, Slice(jobs, job), work)
    except LeaseLost:
        log.info("lease_lost", job=str(key))
        _clean_up(jobs, key, clean_up, job)
        return
    except TransientError:
        with suppress(TransientError):
            jobs.interrupt(job)
        raise
    _clean_up(jobs, key, clean_up)


def _clean_up(jobs: Jobs, key: ObjectId, clean_up: CleanUp, lost: Job | None = None) -> None:
    """Remove what a failed or cancelled job has written. `lost`: the job as a slice held it that lost its lease."""
    try:
        job = jobs.get(key)
    except NotFound:
        if lost:  # cancelled and deleted while the slice was still writing, after the files had been removed
            _attempt(clean_up, lost)
        return
    # A slice that lost its lease may have written something after another one had removed everything.
    if job.status not in {FAILED, CANCELLED} or (job.checkpoint is None and lost is None):
        return
    _attempt(clean_up, job)
    jobs.mark_cleaned(job)


def _attempt(clean_up: CleanUp, job: Job) -> None:
    """Clean up, or log why the destination refuses. Raises TransientError."""
    try:
        clean_up(job)
    except PermanentError as error:
        log.warning("job_not_cleaned", job=str(job.id), code=error.code, reason=error.message)


def _run(jobs: Jobs, job_slice: Slice, work: Work) -> None:
    try:
        result = work(job_slice)
    except (PermanentError, Refused, InvalidSettings) as error:
        if not job_slice.job.is_local:  # the command shows it
            log.warning("job_failed", job=str(job_slice.job.id), code=error.code)
        jobs.fail(job_slice.job, error)
        return
    except SnapshotError:
        raise
    except Exception as error:
        if isinstance(error, TaskInterrupt):
            raise
        log.exception("job_slice_failed", job=str(job_slice.job.id))  # the lease ends, and the job is tried again
        return
    if result is None:
        jobs.release(job_slice.job, job_slice.pause)
    else:
        jobs.complete(job_slice.job, result)
