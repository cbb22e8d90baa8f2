"""An export whose worker is killed again and again, while Redis is emptied and MongoDB's primary steps down.

EXPORTED is the number of its snapshots: `EXPORTED=200000 make acceptance ARGS="-k worker_is_killed"`.
"""

import os
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pymongo
import pytest
from pymongo.errors import PyMongoError

from support.exporting import Exporting, add_snapshots
from support.ledger import bench_on
from support.stack import stack
from support.waiting import eventually
from worker.errors import TransientError
from worker.jobs.job import Job
from worker.settings import Settings
from worker.stores import indexes

COUNT = int(os.environ.get("EXPORTED") or 20_000)
KILLS = 10 if COUNT >= 60_000 else 4


def _is_claimed(exporting: Exporting, job: Job, after: int) -> bool:
    """Whether another slice has begun, or none will."""
    with suppress(TransientError):
        now = exporting.jobs.get(job.id)
        return now.fence > after or now.is_finished
    return False


def _step_down(settings: Settings) -> None:
    """The only member steps down, and becomes primary again."""
    with pymongo.MongoClient[Any](settings.mongo_url) as client:
        with suppress(PyMongoError):
            client.admin.command("replSetStepDown", 3, force=True)
        eventually(lambda: _is_primary(client), 60, 0.2)


def _is_primary(client: "pymongo.MongoClient[Any]") -> bool:
    with suppress(PyMongoError):
        return bool(client.admin.command("hello")["isWritablePrimary"])
    return False


@pytest.mark.acceptance
@pytest.mark.timeout(1800)
def test_export_whose_worker_is_killed_while_stores_lose_data_or_step_down_has_the_same_bytes(
    settings: Settings, tmp_path: Path
) -> None:
    own = settings.model_copy(update={"exports_url": str(tmp_path / "exports")})
    with bench_on(own) as bench:
        indexes.ensure(bench.connections)
        exporting = Exporting(bench)
        for first in range(0, COUNT, 5000):
            add_snapshots(bench, 5000, first)
        undisturbed = exporting.run(format="messages", split="60/20/20", compress="gzip")
        env = {"EXPORTS_URL": str(own.exports_url), "RUN_DEADLINE": "2s"}
        with stack(settings, tmp_path / "stack", env) as running:
            exporting.bench.service.publish = running.bench.service.publish
            job = exporting.accept(format="messages", split="60/20/20", compress="gzip")
            fences = set()
            for kill in range(KILLS):
                fence = exporting.jobs.get(job.id).fence
                eventually(partial(_is_claimed, exporting, job, fence), 90, 0.05)
                time.sleep(0.2 * (kill % 5))  # another moment of the slice each time
                fences.add(exporting.jobs.get(job.id).fence)
                running.worker.restart(180)
                if kill == 1:
                    running.redis.flushdb()
                if kill == 2:
                    _step_down(settings)
                if exporting.jobs.get(job.id).is_finished:
                    break
            done = eventually(lambda: exporting.jobs.get(job.id).is_finished and exporting.jobs.get(job.id), 600, 0.5)
            assert done
            assert done.status == "completed", done.error
            assert len(fences) >= min(KILLS, COUNT // 6000), "it was finished before it could be killed often enough"
            eventually(lambda: [each for each in bench.events() if each["subject"] == str(job.id)], 60, 0.5)
        assert exporting.content(done) == exporting.content(undisturbed)
        assert exporting.strays() == []
        (event,) = {str(each): each for each in bench.events() if each["subject"] == str(job.id)}.values()
        assert event["data"]["counts"]["snapshots"] == COUNT
        assert bench.database.snapshotexports.count_documents({}) == 0
