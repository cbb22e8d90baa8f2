"""An export whose worker is killed again and again, while Redis is emptied."""

import time
from functools import partial
from pathlib import Path

import pytest

from support.exporting import Exporting, add_snapshots
from support.ledger import bench_on
from support.stack import stack
from support.waiting import eventually
from worker.jobs.job import Job
from worker.settings import Settings
from worker.stores import indexes

COUNT, KILLS = 40_000, 4


def _is_claimed(exporting: Exporting, job: Job, after: int) -> bool:
    """Whether another slice has begun, or none will."""
    now = exporting.jobs.get(job.id)
    return now.fence > after or now.is_finished


@pytest.mark.acceptance
@pytest.mark.timeout(900)
def test_export_whose_worker_is_killed_and_whose_redis_is_flushed_has_the_same_bytes(
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
                time.sleep(0.2 * kill)  # another moment of the slice each time
                fences.add(exporting.jobs.get(job.id).fence)
                running.worker.restart(60)
                if kill % 3 == 0:
                    running.redis.flushdb()
                if exporting.jobs.get(job.id).is_finished:
                    break
            done = eventually(lambda: exporting.jobs.get(job.id).is_finished and exporting.jobs.get(job.id), 300, 0.5)
            assert done
            assert done.status == "completed", done.error
            assert len(fences) >= 3, "it was finished before it could be killed often enough"
            eventually(lambda: [each for each in bench.events() if each["subject"] == str(job.id)], 60, 0.5)
        assert exporting.content(done) == exporting.content(undisturbed)
        assert exporting.strays() == []
        (event,) = {str(each): each for each in bench.events() if each["subject"] == str(job.id)}.values()
        assert event["data"]["counts"]["snapshots"] == COUNT
        assert bench.database.snapshotexports.count_documents({}) == 0
