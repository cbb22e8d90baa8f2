"""Fits the costs of the model to measured phases.

The CPU time of a part in a phase is modelled as a sum of costs for each batch, entry, message, run and request of
that phase, and for each second. The latency of single requests shows how much of it comes before the event.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import product
from math import prod
from typing import Any

import numpy as np

from benchmarks.capacity.arrivals import Load
from benchmarks.capacity.costs import Costs, Installation
from benchmarks.capacity.measure import Phase
from benchmarks.capacity.model import Prediction, predict
from benchmarks.machine import CORES, about

SINGLE = "single"
"""The phase of single requests, whose latency is fitted."""
_COUNTED = {
    "listener": ("second", "batch", "entry", "message"),
    "worker": ("second", "message", "run", "request"),
    "mongod": ("second", "batch", "entry", "run", "request", "counted"),
    "redis": ("second", "batch", "message", "request"),
    "load": ("call",),
}
_PROCESSES = {"worker": 2}
_MOST_SPREAD = 1.5
_LEAST_US = 1e4
"""The clock of a process's CPU time has steps of 10 ms."""


def fit(phases: Sequence[Phase], write_ms: list[float]) -> Costs:
    """Return the costs that explain these phases best. `write_ms`: measured writes at majority, in order."""
    single = next(phase for phase in phases if phase.name == SINGLE)
    made = Costs(
        **costs_of(phases),
        sweep=_sweep(phases),
        write_ms=write_ms,
        before_event=1.0,
        spread=0.0,
        delay_ms=0.0,
        fitted={
            "date": f"{datetime.now(UTC):%Y-%m-%d}",
            "machine": about(),
            "phases": [each.as_fields() for each in phases],
        },
    )
    made = _as_single(made, single)
    return _as_single(_with_spread(made, [phase for phase in phases if phase.waits]), single)


def costs_of(phases: Sequence[Phase]) -> dict[str, dict[str, float]]:
    """Return µs at core speed 1.0 by part, and by what is counted."""
    return {part: _part(part, phases) for part in _COUNTED}


def here(core_speed: float) -> Installation:
    """Return what the measurements run on: everything on this machine."""
    return Installation(shared_cores=float(len(CORES)), core_speed=core_speed)


def _part(part: str, phases: Sequence[Phase]) -> dict[str, float]:
    names = _COUNTED[part]
    counts = np.array([[_count(phase, name, part) for name in names] for phase in phases], dtype=float)
    spent = np.array([1e6 * phase.core_speed * phase.cpu[part] for phase in phases])
    return {name: round(float(each), 1) for name, each in zip(names, _least_squares(counts, spent), strict=True)}


def _count(phase: Phase, name: str, part: str) -> float:
    if name == "second":
        return phase.seconds * _PROCESSES.get(part, 1)
    if name == "counted":
        return phase.ledger * len(phase.sweeps)
    return phase.counts["task" if (part, name) == ("worker", "message") else name]


def _least_squares(counts: Any, spent: Any) -> Any:
    """Solve for costs of at least zero: the best of all choices of those that are zero."""
    weights = 1.0 / np.sqrt(np.maximum(spent, _LEAST_US))
    matrix, wanted = counts * weights[:, None], spent * weights
    scales = np.maximum(np.abs(matrix).max(axis=0), 1e-12)
    best, least = np.zeros(matrix.shape[1]), np.inf
    for chosen in product([False, True], repeat=matrix.shape[1]):
        which = np.flatnonzero(chosen)
        found = np.linalg.lstsq(matrix[:, which] / scales[which], wanted, rcond=None)[0]
        error = np.sum((matrix[:, which] / scales[which] @ found - wanted) ** 2)
        if (found >= 0).all() and error < least - 1e-12:
            best, least = np.zeros(matrix.shape[1]), error
            best[which] = found / scales[which]
    return best


def _sweep(phases: Sequence[Phase]) -> dict[str, float]:
    """Return µs of a sweep, and of each entry in the ledger: a line through the phases without requests."""
    idle = [phase for phase in phases if not phase.load and phase.sweeps and not phase.counts["request"]]
    if len(idle) < 2:
        return {"sweep": 1e6 * float(np.median(idle[0].sweeps)), "entry": 0.0} if idle else {"sweep": 0.0, "entry": 0.0}
    sizes = [phase.ledger for phase in idle for _ in phase.sweeps]
    times = [1e6 * each * phase.core_speed for phase in idle for each in phase.sweeps]
    entry, once = np.polyfit(sizes, times, 1)
    return {"sweep": round(max(float(once), 0.0), 1), "entry": round(max(float(entry), 0.0), 3)}


def _as_single(costs: Costs, single: Phase) -> Costs:
    """Return the costs with the share before the event, and if that is all, with the delay, that single requests show.

    The median of their waits is then as measured.
    """

    def median(tried: Costs) -> float:
        return 1e3 * _predicted(tried, single).p50

    wanted = single.waits["p50_ms"]
    costs = replace(costs, delay_ms=0.0)
    if median(replace(costs, before_event=1.0)) > wanted:
        share = _bisect(lambda value: median(replace(costs, before_event=value)) < wanted, 1.0)
        return replace(costs, before_event=round(share, 3))
    delay = _bisect(lambda value: median(replace(costs, delay_ms=value)) < wanted, wanted)
    return replace(costs, delay_ms=round(delay, 2))


def _with_spread(costs: Costs, phases: Sequence[Phase]) -> Costs:
    """Return the costs with the spread at which the p99 of these loads is as measured, on the average."""

    def ratio(spread: float) -> float:
        tried = replace(costs, spread=spread)
        return prod(1e3 * _predicted(tried, phase).p99 / phase.waits["p99_ms"] for phase in phases)

    return replace(costs, spread=round(_bisect(lambda value: ratio(value) < 1.0, _MOST_SPREAD), 3))


def _predicted(costs: Costs, phase: Phase) -> Prediction:
    return predict(costs, here(phase.core_speed), Load(**phase.load).times())


def _bisect(is_below: Callable[[float], bool], high: float) -> float:
    """Return the greatest value from 0 on that is below, to a thousandth of `high`."""
    low = 0.0
    for _ in range(10):
        middle = (low + high) / 2
        low, high = (middle, high) if is_below(middle) else (low, middle)
    return low


def explained(costs: Costs) -> Mapping[str, Mapping[str, list[float]]]:
    """Return the CPU seconds of each phase and part: as measured, and as predicted by the costs."""
    phases = [Phase(**each) for each in costs.fitted["phases"]]
    return {
        phase.name: {
            part: [
                round(phase.cpu[part], 2),
                round(
                    sum(cost * _count(phase, name, part) for name, cost in getattr(costs, part).items())
                    / (1e6 * phase.core_speed),
                    2,
                ),
            ]
            for part in _COUNTED
        }
        for phase in phases
    }
