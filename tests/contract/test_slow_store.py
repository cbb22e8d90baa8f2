"""A sweep whose MongoDB answers slowly: every repair completes, over several sweeps."""

from collections.abc import Iterator
from typing import Any

import pymongo
import pytest
from bson import ObjectId

from support.faults import failing
from support.ledger import Bench
from support.sweeping import event_ids, sweep
from worker.runs.run import Run
from worker.sweep.budget import Budget
from worker.sweep.sweep import Sweep, SweepReport

COMMANDS = ["find", "getMore", "aggregate", "update", "findAndModify", "insert", "hello", "createIndexes", "distinct"]


@pytest.fixture
def slow(bench: Bench, mongo_client: pymongo.MongoClient[Any]) -> Iterator[None]:
    """Each answer takes 180 ms, a tenth of what the sweep's full budget is made for."""
    with failing(mongo_client, COMMANDS, blockConnection=True, blockTimeMS=180):
        yield


def sweep_until(bench: Bench, done: Any) -> list[SweepReport]:
    """Sweep with a tenth of the budget, each continuing where the last one stopped, until `done`."""
    reports: list[SweepReport] = []
    resume_at: str | None = None
    while not done() and len(reports) < 30:
        reports.append(Sweep(bench.service)(Budget(2.0), resume_at))
        resume_at = reports[-1].resume_at
    assert done(), reports
    return reports


def lose_everything(bench: Bench) -> tuple[list[ObjectId], list[ObjectId]]:
    """Events that Redis lost, and requests whose wake-up it lost; MongoDB is not slow yet."""
    emitted, waiting = bench.chunk(4), bench.chunk(3)
    Run(bench.service)(emitted)
    sweep(bench)
    bench.change(waiting, enqueuedAt=bench.ago(minutes=1))
    bench.connections.redis.flushdb()
    return emitted, waiting


@pytest.mark.acceptance
def test_every_repair_completes_however_slow_the_store(bench: Bench, request: pytest.FixtureRequest) -> None:
    """Ten operations a sweep, as with 1.8 s an answer in 20 s; all repairs together need more than twice as many."""
    emitted, waiting = lose_everything(bench)
    unsent = bench.chunk(2)
    Run(bench.service)(unsent)
    bench.change(unsent, unsent=True, finishedAt=bench.ago(minutes=2))
    old = bench.chunk(2)
    Run(bench.service)(old)
    bench.change(old, finishedAt=bench.ago(days=100))
    bench.database.snapshotstate.delete_one({"_id": "retention"})
    bench.connections.redis.flushdb()
    request.getfixturevalue("slow")

    def done() -> bool:
        events = {f"{key}.0" for key in (*emitted, *unsent)} <= set(event_ids(bench))
        return events and len(bench.published.ids) >= len(waiting)

    reports = sweep_until(bench, done)
    assert len(reports) > 1
    assert set(bench.published.ids) == {str(key) for key in waiting}
    reports += sweep_until(bench, lambda: not any("acceptedAt" in each for each in bench.entries(old)))
    assert sum(each.stripped for each in reports) == 2
    assert sum(each.emitted for each in reports) == 2
