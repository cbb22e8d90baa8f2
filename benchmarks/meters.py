"""Measures the costs of a run: CPU time by process, bytes and round trips to the servers, speed of the cores."""

import os
import statistics
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import psutil

from benchmarks.machine import core_speed, times
from benchmarks.session import Session

_REDIS = {
    "round_trips": "total_reads_processed",
    "commands": "total_commands_processed",
    "bytes_in": "total_net_input_bytes",
    "bytes_out": "total_net_output_bytes",
}
_MONGO = {"round_trips": "numRequests", "bytes_in": "bytesIn", "bytes_out": "bytesOut"}


def tree(pid: int) -> list[psutil.Process]:
    """Return a process and its descendants that still run."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    return []


def cpu_seconds(pid: int) -> float:
    """Return the CPU seconds of a process and of its children, running or waited for."""
    spent = 0.0
    for process in tree(pid):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            spent += times.user + times.system + times.children_user + times.children_system
    return spent


@dataclass(frozen=True)
class Reading:
    """The readings of all meters at one moment."""

    cpu: dict[str, float]
    mongo: dict[str, int]
    redis: dict[str, int]
    idle: float
    total: float


@dataclass
class Meters:
    """Measures from `start` to `stop`. `processes` are process ids by the name in the report."""

    session: Session
    processes: Mapping[str, int] = field(default_factory=dict)
    _speeds: list[float] = field(default_factory=list)
    _before: Reading | None = None

    def start(self) -> None:
        self._before = self._read()

    def look(self) -> None:
        """Sample the speed of the cores; call it about five times a second."""
        self._speeds.append(core_speed(len(self._speeds)))

    def stop(self, jobs: int, others: Mapping[str, float] | None = None) -> dict[str, Any]:
        """Return costs per job: `cpu_us` by process, `mongo` and `redis` round trips and bytes; shares of all cores.

        `others`: CPU seconds of processes that have ended.
        """
        before, after = self._before, self._read()
        if before is None:
            raise RuntimeError("the meters were not started")
        spent = {name: after.cpu[name] - before.cpu[name] for name in after.cpu} | dict(others or {})
        total = max(after.total - before.total, 1e-9)
        known = sum(spent.values()) + after.idle - before.idle
        shown = {name: each for name, each in spent.items() if name != "driver"}
        return {
            "cpu_us": {name: round(1e6 * each / jobs, 1) for name, each in shown.items()},
            "mongo": {name: round((after.mongo[name] - before.mongo[name]) / jobs, 3) for name in after.mongo},
            "redis": {name: round((after.redis[name] - before.redis[name]) / jobs, 3) for name in after.redis},
            "core_speed": round(statistics.mean(self._speeds or [core_speed(0)]), 3),
            "foreign": round(max(0.0, total - known) / total, 3),
            "idle": round((after.idle - before.idle) / total, 3),
        }

    def _read(self) -> Reading:
        servers = {child.name: child.pid for child in self.session.servers.children}
        cpu = {name: cpu_seconds(pid) for name, pid in {**self.processes, **servers}.items()}
        own = os.times()
        cpu["driver"] = own.user + own.system
        network = self.session.mongo.admin.command("serverStatus")["network"]
        statistics: Any = self.session.redis.info("stats")
        idle, total = times()
        return Reading(
            cpu,
            {name: network[key] for name, key in _MONGO.items()},
            {name: statistics.get(key, 0) for name, key in _REDIS.items()},
            idle,
            total,
        )
