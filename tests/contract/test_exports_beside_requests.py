"""Requests beside exports: however many exports are in progress, requests keep the processes of their workers."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.exporting import Exporting, add_snapshots
from support.ledger import bench_on
from support.stack import Running, pool_of, stack, worker
from support.waiting import eventually
from worker.jobs.job import Job
from worker.settings import Settings
from worker.stores import indexes
from worker.stores.wakeups import EXPORTS

SLOW = {"redact": ["email", "phone"]}
"""Redaction makes a slice of a few thousand snapshots last for seconds."""


@pytest.fixture
def exports_url(tmp_path: Path) -> str:
    return str(tmp_path / "exports")


@pytest.fixture
def exporting(settings: Settings, exports_url: str) -> Iterator[Exporting]:
    with bench_on(settings.model_copy(update={"exports_url": exports_url})) as bench:
        indexes.ensure(bench.connections)
        yield Exporting(bench)


def _is_writing(exporting: Exporting, job: Job) -> bool:
    return (exporting.jobs.get(job.id).progress or {}).get("phase") == "write"


def _seconds(running: Running) -> float:
    """Make one snapshot; return how long it took."""
    (key,) = running.bench.chunk(1)
    began = time.monotonic()
    running.publish([key])
    ledger = running.database.snapshotrequests
    assert eventually(lambda: ledger.find_one({"_id": key, "status": "completed"}), 60, 0.005)
    return time.monotonic() - began


@pytest.mark.timeout(300)
def test_request_is_done_while_a_slice_of_an_export_runs_on_the_only_worker(
    settings: Settings, tmp_path: Path, exporting: Exporting, exports_url: str
) -> None:
    add_snapshots(exporting.bench, 5000, messages=8)
    with stack(settings, tmp_path / "stack", {"EXPORTS_URL": exports_url}) as running:
        exporting.bench.service.publish = running.bench.service.publish
        written = exporting.accept(**SLOW)
        assert eventually(lambda: _is_writing(exporting, written), 60, 0.01)
        # Only now: while the first slice began, a read of the queue that was under way could still take another one.
        jobs = [written, exporting.accept(**SLOW)]
        slice_of = exporting.jobs.get(written.id).fence
        _seconds(running)
        now = exporting.jobs.get(written.id)
        assert (now.fence, now.status) == (slice_of, "running"), "the request waited for the slice to end"
        assert exporting.jobs.collection.count_documents({"leasedUntil": {"$ne": None}}) == 1
        assert running.redis.llen(EXPORTS) == 1, "the worker holds the other slice, which an idle one could run"
        assert len(pool_of(running.worker)) == 2
        assert eventually(lambda: all(exporting.jobs.get(each.id).status == "completed" for each in jobs), 120, 0.1)


@pytest.mark.acceptance
@pytest.mark.timeout(600)
def test_requests_take_less_than_a_second_beside_as_many_exports_as_processes(
    settings: Settings, tmp_path: Path, exporting: Exporting, exports_url: str
) -> None:
    add_snapshots(exporting.bench, 40_000, messages=8)
    with stack(settings, tmp_path / "stack", {"EXPORTS_URL": exports_url}) as running:
        exporting.bench.service.publish = running.bench.service.publish
        second = worker(tmp_path / "stack", {name: value or "" for name, value in running.worker.env.items()}, "second")
        second.start()
        try:
            second.wait_until_ready(60)
            jobs = [exporting.accept(**SLOW) for _ in range(2)]
            assert eventually(lambda: all(_is_writing(exporting, each) for each in jobs), 60, 0.01)
            took = []
            while not any(exporting.jobs.get(each.id).is_finished for each in jobs):
                took.append(_seconds(running))
                time.sleep(0.05)
        finally:
            second.kill()
    assert len(took) >= 50
    assert sorted(took)[int(0.99 * len(took))] < 1, sorted(took)[-5:]
