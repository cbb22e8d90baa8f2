"""`python -m benchmarks`, very small: that it goes through, and what it writes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
SMALL = ("--rounds", "1", "--scale", "0.001", "--patience", "0")


def run(*arguments: str, module: str = "benchmarks") -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
        # Servers of its own, whatever the environment names.
        env={name: value for name, value in os.environ.items() if not name.startswith("SNAPSHOTS_")},
    )


@pytest.mark.acceptance
@pytest.mark.timeout(120)
def test_a_small_run_writes_the_rates_of_all_contenders_and_a_plot(tmp_path: Path) -> None:
    ended = run(*SMALL, "--only", "stream", "--results", str(tmp_path))
    assert ended.returncode == 0, ended.stderr
    results = json.loads((tmp_path / "benchmarks.json").read_text())
    rates = {row["name"]: row for row in results["rates"]}
    references = {"pymongo_loop_2", "pymongo_bulk_2", "celery_naive_here"}
    assert set(rates) == references | {"stream"}
    assert all(row["rate"] > 0 and row["x_bulk"] > 0 for row in rates.values())
    assert {"worker1", "worker2", "listener", "mongod", "valkey", "producer"} <= set(rates["stream"]["cpu_us"])
    assert "| **stream** |" in (tmp_path / "benchmarks.md").read_text()
    assert (tmp_path / "benchmarks.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.acceptance
def test_a_small_ledger_is_filled_with_counts_that_hold_and_timed() -> None:
    ended = run("2000", "20", "--rounds", "1", module="benchmarks.ledger_size")
    assert ended.returncode in {0, 1}, ended.stderr  # 1: slower than a second here
    seconds = json.loads(ended.stdout)["seconds"]  # `snapshots status` ends with 1 if the counts do not hold
    assert set(seconds) == {"sweep", "snapshots status", "status without start", "overview", "/metrics"}


def test_a_wrong_argument_is_named_with_what_is_allowed() -> None:
    ended = run("--only", "streams")
    assert ended.returncode == 2
    assert "unknown: streams; allowed: interactive, celery, stream, backfill" in " ".join(ended.stderr.split())
