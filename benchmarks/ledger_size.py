"""`python -m benchmarks.ledger_size ENTRIES ORGANIZATIONS`: what operators read, and the sweep, on a large ledger.

Fills a ledger as it looks after two months, and times the product's own code on it: `snapshots status`, the overview of
the operations pages, a scrape of `/metrics`, and a sweep. With `--data`, the folder keeps the ledger, and a later call
with more entries adds the difference.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bson import ObjectId
from click.testing import CliRunner
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import CollectorRegistry

from benchmarks.ledger_entries import fill
from worker.cli.status import status
from worker.local.embedded import Options, embedded
from worker.metrics.readers import NEVER
from worker.metrics.system import SystemMetrics
from worker.operations.data.overview import OverviewReader
from worker.service import Service
from worker.settings import PREFIX, load
from worker.stores import indexes
from worker.stores.connections import Connections
from worker.stores.counts import counts_of, totals
from worker.stores.stats import identities
from worker.sweep.counting import CountUpkeep
from worker.sweep.sweep import Sweep

DATABASE = "ledger_size"
CACHE_GB = 2.0
LIMIT = 1.0
"""Seconds that each of them may take."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit code: 0, or 1 if something takes longer than a second."""
    given = _read(arguments)
    with embedded(given.data, Options(cache_gb=CACHE_GB)) as servers:
        settings = load(redis_url=servers.redis_url, mongo_url=servers.mongo_url, mongo_database=DATABASE)
        connections = Connections(settings)
        try:
            began = time.monotonic()
            added = fill(connections, given.entries, given.organizations, given.processes)
            counts_of(connections).drop()
            indexes.ensure(connections)
            _say(f"{added:,} entries added in {time.monotonic() - began:.0f} s")
            environment = servers.environment() | {f"{PREFIX}MONGO_DATABASE": DATABASE}
            os.environ |= environment
            medians = _measure(connections, environment, given.rounds)
        finally:
            connections.close()
    print(json.dumps({"entries": given.entries, "organizations": given.organizations, "seconds": medians}))
    return 0 if max(medians.values()) < LIMIT else 1


def _read(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ledger_size", description="Measure on a large ledger.")
    parser.add_argument("entries", type=int)
    parser.add_argument("organizations", type=int)
    parser.add_argument("--data", type=Path, help="folder that keeps the ledger (default: a temporary one)")
    parser.add_argument("--processes", type=int, default=2, help="processes that insert (default: 2)")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is timed (default: 5)")
    given = parser.parse_args(arguments)
    if min(given.entries, given.organizations, given.processes, given.rounds) < 1:
        parser.error("all numbers must be positive")
    return given


def _measure(connections: Connections, environment: dict[str, str], rounds: int) -> dict[str, float]:
    """Return medians in seconds by name. What only a first call has to do is timed apart, and does not count."""
    service = Service(connections, lambda *_, **__: None)
    metrics = SystemMetrics(connections, NEVER, NEVER)
    registry = CollectorRegistry()
    registry.register(metrics)
    overview = OverviewReader(connections)
    command = [sys.executable, "-c", "from worker.cli import main; main()", "status"]
    steps: dict[str, Callable[[], Any]] = {
        "sweep": partial(_sweep, service),
        "snapshots status": lambda: _run(command, environment),
        "status without start": lambda: CliRunner().invoke(status, catch_exceptions=False),
        "overview": lambda: overview(None),
        "/metrics": lambda: generate_latest(registry),
    }
    start = min(_seconds(partial(_run, [*command, "--help"], environment)) for _ in range(rounds))
    _say(f"a command's start     best    {start:8.3f} s")
    for name, seconds in _until_settled(service, steps, metrics).items():
        _say(f"{name:<20} first   {seconds:8.3f} s")
    medians = {}
    for name, step in steps.items():
        times = [_seconds(step) for _ in range(rounds)]
        medians[name] = round(statistics.median(times), 3)
        _say(f"{name:<20} median  {medians[name]:8.3f} s   longest {max(times):8.3f} s")
    metrics.close()
    return medians


def _sweep(service: Service) -> None:
    Sweep(service)()


def _until_settled(service: Service, steps: dict[str, Callable[[], Any]], metrics: SystemMetrics) -> dict[str, float]:
    """Return the times of what is done once: the first turn of the counts, and the first of each step."""
    first = {"one full count": _seconds(lambda: identities(service.connections))}
    began, longest = time.monotonic(), 0.0
    while totals(service.connections, ObjectId()).verified_since is None:
        longest = max(longest, _seconds(CountUpkeep(service)))
    first |= {"first turn of counts": time.monotonic() - began, "its longest sweep": longest}
    first |= {name: _seconds(step) for name, step in steps.items()}
    began = time.monotonic()
    while not any(family.name == "snapshots_accepted" for family in metrics.collect()):
        time.sleep(0.1)
    first["totals of /metrics"] = time.monotonic() - began
    return first


def _run(command: Sequence[str], environment: dict[str, str]) -> None:
    """Run a command. Its code is 1 where counts do not hold."""
    ended = subprocess.run(command, env=os.environ | environment, check=False, capture_output=True, text=True)
    if ended.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {ended.returncode}: {ended.stderr[-2000:]}")


def _seconds(step: Callable[[], Any]) -> float:
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def _say(*lines: str) -> None:
    print(*lines, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
