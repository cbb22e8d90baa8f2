"""Runs a backfill in the process of a command, or follows one that another process runs."""

import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress

from bson import ObjectId

from worker.backfills.backfill import Backfill
from worker.backfills.progress import Progress
from worker.errors import PermanentError, Refused, TransientError
from worker.jobs.job import Job
from worker.jobs.slices import Slice
from worker.jobs.store import Jobs, LeaseLost

_PAUSE, _WATCH_PAUSE, _FAULT_PAUSE = 0.05, 0.5, 0.5
"""Seconds between two slices of a paused backfill, two reads of another process's job, and two attempts while a server
is down."""


class Runner:
    """Runs the slices of a backfill until it is finished or the time is up. In that case the workers continue it."""

    def __init__(self, jobs: Jobs, on_progress: Callable[[Progress], None]) -> None:
        self._jobs = jobs
        self._on_progress = on_progress
        self._work = Backfill(jobs.service, pause=_PAUSE, on_progress=on_progress)

    def __call__(self, key: ObjectId, seconds: float) -> Job:
        """Run for up to `seconds`; return the job, finished or not.

        Raises TransientError if a server is still down then.
        """
        stop_at = time.monotonic() + seconds
        job_slice: Slice | None = None
        try:
            while True:
                try:
                    job_slice, pause = self._step(key, job_slice)
                    if job_slice is None and (job := self._jobs.get(key)).is_finished:
                        return job
                except LeaseLost:
                    job_slice, pause = None, 0.0
                except TransientError:
                    pause = _FAULT_PAUSE
                    if time.monotonic() + pause > stop_at:
                        raise
                if time.monotonic() + pause > stop_at:
                    break
                time.sleep(pause)
        finally:
            if job_slice:
                self._hand_over(job_slice)
        return self._jobs.get(key)

    def _step(self, key: ObjectId, job_slice: Slice | None) -> tuple[Slice | None, float]:
        """Work on a slice, or read the progress of another process; return the slice, and how many seconds to wait."""
        if job_slice is None:
            claimed = self._jobs.claim(key, f"{socket.gethostname()}:{os.getpid()}")
            if claimed is None:
                self._on_progress(Progress.of(self._jobs.get(key)))
                return None, _WATCH_PAUSE
            job_slice = Slice(self._jobs, claimed)
        job_slice.begin()
        try:
            result = self._work(job_slice)
        except (PermanentError, Refused) as error:
            self._jobs.fail(job_slice.job, error)
            return None, 0.0
        if result is not None:
            self._jobs.complete(job_slice.job, result)
            return None, 0.0
        return job_slice, job_slice.pause.total_seconds() if job_slice.pause else 0.0

    def _hand_over(self, job_slice: Slice) -> None:
        """Enqueue the job for the workers. If that fails, the sweep does it once the lease has ended."""
        with suppress(TransientError):
            job_slice.save()
            self._jobs.release(job_slice.job)
