"""The tasks that beat sends."""

from dataclasses import asdict

from worker.bootstrap import service
from worker.celery import app
from worker.errors import TransientError
from worker.log import get_logger
from worker.sweeping import Sweep

log = get_logger(__name__)


@app.task(name="snapshots.sweep")
def sweep() -> None:
    """Repairs what was lost. What fails now, the next sweep does."""
    try:
        done = asdict(Sweep(service())())
    except TransientError as error:
        log.warning("sweep_incomplete", code=error.code, reason=error.message)
        return
    if any(done.values()):
        log.info("swept", **done)
