"""The machine: how fast its cores are now, whether it is quiet, what it is.

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
"""CPU time of so many additions at speed 1.0, the same as `../shared/peers` takes."""
_QUIET = 0.12
"""Share of all cores that others may use on a quiet machine."""


def _cores() -> list[int]:
    affinity = getattr(os, "sched_getaffinity", None)  # Linux
    return sorted(affinity(0)) if affinity else list(range(os.cpu_count() or 1))


CORES = _cores()


def core_speed(turn: int) -> float:
    """Speed of one core now, the cores in turn; takes about half a millisecond."""
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
    """Idle and total seconds of all cores; waiting for the disk counts as idle."""
    told = psutil.cpu_times()
    idle = told.idle + getattr(told, "iowait", 0.0)
    return idle, sum(told) - getattr(told, "guest", 0.0) - getattr(told, "guest_nice", 0.0)


def wait_until_quiet(longest: float) -> None:
    """Until others have left the cores alone for a second, or `longest` seconds have passed."""
    deadline = time.monotonic() + longest
    quiet = 0
    while quiet < 2 and time.monotonic() < deadline:
        idle, total = times()
        time.sleep(0.5)
        idle_now, total_now = times()
        busy = 1 - (idle_now - idle) / max(total_now - total, 1e-9)
        quiet = quiet + 1 if busy < _QUIET else 0


def about() -> dict[str, Any]:
    """What may be said of it in public."""
    return {
        "cores": len(CORES),
        "memory_gb": round(psutil.virtual_memory().total / 2**30),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }
