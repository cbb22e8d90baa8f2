"""The tasks that beat sends."""

import os
from dataclasses import asdict
from functools import cache

from worker.bootstrap import service
from worker.celery import app
from worker.errors import TransientError
from worker.log import get_logger
from worker.stores import indexes
from worker.sweep.schedule_lock import take_turn
from worker.sweep.sweep import Sweep

log = get_logger(__name__)


@cache
def _ensure_indexes(_: int) -> None:
    """Once a process: MongoDB may have been away when the worker started."""
    indexes.ensure(service().connections)


@app.task(name="snapshots.sweep")
def sweep() -> None:
    """Repairs what was lost. What fails now, the next sweep does."""
    try:
        if not take_turn(service(), "sweep", service().settings.sweep_interval):
            return
        _ensure_indexes(os.getpid())
        done = asdict(Sweep(service())())
    except TransientError as error:
        log.warning("sweep_incomplete", code=error.code, reason=error.message)
        return
    if any(done.values()):
        log.info("swept", **done)
