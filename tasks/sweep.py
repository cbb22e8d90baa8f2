"""The sweep task, which beat sends."""

import os
from dataclasses import asdict
from datetime import timedelta
from functools import cache

import pymongo

from worker.bootstrap import service
from worker.celery import app
from worker.errors import TransientError
from worker.log import get_logger
from worker.stores.indexes import Index, ensure_first, required_indexes
from worker.sweep.budget import Budget
from worker.sweep.schedule_lock import SWEEP, acquire_schedule_lock, release_schedule_lock
from worker.sweep.sweep import SECONDS, Sweep

log = get_logger(__name__)

_RELEASE_SECONDS = 4


@cache
def _missing_indexes(_: int) -> list[Index]:
    """Return the indexes that this process has not created yet: MongoDB may have been unreachable when it started."""
    return required_indexes(service().settings)


def _ensure_indexes(budget: Budget) -> None:
    missing = _missing_indexes(os.getpid())
    while missing and not budget.is_over:
        ensure_first(service().connections, missing)


@app.task(name="snapshots.sweep", soft_time_limit=int(SECONDS) + 8, time_limit=int(SECONDS) + 12)
def run_sweep() -> None:
    """Run a sweep, which repairs what was lost between the ledger and Redis.

    If a repair fails, the next sweep repeats it.
    """
    budget = Budget(SECONDS)
    own = service()
    interval = own.settings.sweep_interval
    # A slow sweep delays the next one, so that sweeps do not occupy all workers. A killed sweep must not delay it for
    # long.
    lease = min(2 * interval, timedelta(seconds=SECONDS))
    sweep = Sweep(own, {"indexes": lambda: _ensure_indexes(budget)})
    try:
        previous = acquire_schedule_lock(own, SWEEP, interval, lease)
        if previous is None:
            return
        try:
            sweep(budget, begin_with=previous.get("resumeAt"))
        finally:
            with pymongo.timeout(_RELEASE_SECONDS):
                release_schedule_lock(own, SWEEP, resumeAt=sweep.report.resume_at)
    except TransientError as error:
        log.warning("sweep_incomplete", code=error.code, reason=error.message)
        return
    report = asdict(sweep.report)
    if any(report.values()):
        log.info("swept", **report)
