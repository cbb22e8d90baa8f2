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
        self._slice: Slice | None = None
        """The slice that this process has claimed, if any."""

    def __call__(self, key: ObjectId, seconds: float) -> Job:
        """Run for up to `seconds`; return the job, finished or not.

        Raises TransientError if a server is still down then.
        """
        stop_at = time.monotonic() + seconds
        try:
            while True:
                try:
                    pause = self._step(key)
                    if self._slice is None and (job := self._jobs.get(key)).is_finished:
                        return job
                except LeaseLost:
                    self._slice, pause = None, 0.0
                except TransientError:
                    pause = _FAULT_PAUSE
                    if time.monotonic() + pause > stop_at:
                        raise
                if time.monotonic() + pause > stop_at:
                    break
                time.sleep(pause)
        finally:
            if self._slice:
                self._hand_over(self._slice)
        return self._jobs.get(key)

    def _step(self, key: ObjectId) -> float:
        """Work on a slice, or read the progress of another process; return how many seconds to wait."""
        if self._slice is None:
            claimed = self._jobs.claim(key, f"{socket.gethostname()}:{os.getpid()}")
            if claimed is None:
                self._on_progress(Progress.of(self._jobs.get(key)))
                return _WATCH_PAUSE
            self._slice = Slice(self._jobs, claimed)  # before the work, which an error or Ctrl-C may end
        self._slice.begin()
        try:
            result = self._work(self._slice)
        except (PermanentError, Refused) as error:
            self._jobs.fail(self._slice.job, error)
            self._slice = None
            return 0.0
        if result is not None:
            self._jobs.complete(self._slice.job, result)
            self._slice = None
            return 0.0
        return self._slice.pause.total_seconds() if self._slice.pause else 0.0

    def _hand_over(self, job_slice: Slice) -> None:
        """Enqueue the job for the workers. If that fails, the sweep does it once the lease has ended."""
        with suppress(TransientError):
            job_slice.save()
            self._jobs.release(job_slice.job)
