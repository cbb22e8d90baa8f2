"""The machine: its cores' current speed, whether it is quiet, and its description.

On a shared machine the speed of a core may change by half from one minute to the next, so it is measured
all along, and rates are given as they would be at speed 1.0 too.
"""

import os
import platform
import time
from typing import Any

import psutil

ADDITIONS = 20_000
_REFERENCE_NS = 380_000
"""CPU time of these additions at speed 1.0, the same as the peers use."""
_QUIET = 0.12
"""Share of all cores that other processes may use on a quiet machine."""


def _cores() -> list[int]:
    affinity = getattr(os, "sched_getaffinity", None)  # Linux
    return sorted(affinity(0)) if affinity else list(range(os.cpu_count() or 1))


CORES = _cores()


def core_speed(turn: int) -> float:
    """Return the current speed of one core, each core in turn, which takes about half a millisecond."""
    pin = getattr(os, "sched_setaffinity", None)
    if pin:
        pin(0, {CORES[turn % len(CORES)]})
    began = time.thread_time_ns()
    total = 0
    for number in range(ADDITIONS):
        total += number
    spent = time.thread_time_ns() - began
    if pin:
        pin(0, CORES)
    return _REFERENCE_NS / max(spent, 1)


def times() -> tuple[float, float]:
    """Return idle and total seconds of all cores; waiting for the disk counts as idle."""
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    return idle, sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)


def wait_until_quiet(longest: float) -> None:
    """Wait until other processes have been quiet for a second, or for `longest` seconds."""
    deadline = time.monotonic() + longest
    quiet = 0
    while quiet < 2 and time.monotonic() < deadline:
        idle, total = times()
        time.sleep(0.5)
        idle_now, total_now = times()
        busy = 1 - (idle_now - idle) / max(total_now - total, 1e-9)
        quiet = quiet + 1 if busy < _QUIET else 0


def about() -> dict[str, Any]:
    """Return the description for the published results."""
    return {
        "cores": len(CORES),
        "memory_gb": round(psutil.virtual_memory().total / 2**30),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }
