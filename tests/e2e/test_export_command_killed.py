"""`snapshots export` without a worker, and killed while it writes."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from bson import ObjectId

from support.commands import CHECKOUT, COMMAND, run
from support.exporting import add_snapshots
from support.ledger import Bench, bench_on
from support.waiting import allowed, eventually
from worker.exports.leftovers import owned, remove_leftovers
from worker.settings import Settings

Env = dict[str, str]


@pytest.fixture
def bench(settings: Settings) -> Iterator[Bench]:
    with bench_on(settings) as made:
        yield made


@contextmanager
def exporting(env: Env, bench: Bench, *more: object) -> Iterator["subprocess.Popen[str]"]:
    arguments = ["export", "--organization", bench.organization, "--format", "jsonl", *more]
    process = subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        env=env,
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def test_command_says_that_no_worker_runs_and_ctrl_c_leaves_the_export(env: Env, bench: Bench, tmp_path: Path) -> None:
    add_snapshots(bench, 3)
    with exporting(env | {"SNAPSHOTS_EXPORTS_URL": str(tmp_path)}, bench) as process:
        assert process.stderr
        said, start, stays = (process.stderr.readline().strip() for _ in range(3))
        job = bench.database.snapshotjobs.find_one()
        show = f"snapshots exports show {job['_id']}"
        assert said == f"No worker has taken export {job['_id']} yet. If none is running, start one:"
        assert start == "snapshots celery worker -P prefork -c 1 -n exporter@%h -Q snapshots.exports"
        assert stays == f"It stays accepted even after Ctrl-C. Watch it with: {show}"
        process.send_signal(signal.SIGINT)
        assert show in process.communicate(timeout=allowed(20))[1]
    assert bench.database.snapshotjobs.find_one()["status"] == "accepted"


def test_next_export_removes_what_a_killed_one_has_left(env: Env, bench: Bench, tmp_path: Path) -> None:
    for first in range(0, 10_000, 5000):
        add_snapshots(bench, 5000, first)
    with exporting(env, bench, "-o", tmp_path / "killed") as process:
        eventually(lambda: list(tmp_path.glob(".*/slice-*/*")), 30, 0.005)
        psutil.Process(process.pid).suspend()
        living = sorted(path.name for path in tmp_path.iterdir())
        assert len(living) == 2
        remove_leftovers(tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir()) == living, "its owner is alive"
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    (tmp_path / f".{ObjectId()}").mkdir()
    others = {path.name for path in tmp_path.iterdir()} - set(living)
    arguments = ("--organization", bench.organization, "--format", "jsonl", "--to", "2026-05-14", "-o")
    assert run(env, "export", *arguments, tmp_path / "next").code == 0
    assert {path.name for path in tmp_path.iterdir()} == {"next", *others}, "only what has a lock is removed"


def test_lock_ends_with_its_block_and_is_never_taken_from_a_living_owner(tmp_path: Path) -> None:
    key = ObjectId()
    with owned(tmp_path, key):
        (tmp_path / f".{key}").mkdir()
        remove_leftovers(tmp_path)
        assert (tmp_path / f".{key}").exists()
    assert [path.name for path in tmp_path.iterdir()] == [f".{key}"]
