"""Medians over the rounds, and ratios within a round, which do not depend on the cores' speed."""

import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks.latency import NO_QUEUE, OURS, POST, Latency
from benchmarks.options import DURABLE, PATHS
from benchmarks.runs import BULK, LOOP, Run

_REFERENCES = (LOOP, BULK)
_NOISY = 0.12
"""Share of all cores that other processes used. Noisier runs are left out if there are quieter ones."""


def of(runs: Sequence[Run], name: str) -> list[Run]:
    return [run for run in runs if run.name == name]


def foreign(run: Run) -> float:
    return float(run.costs.get("foreign") or 0)


def kept(runs: Sequence[Run]) -> list[Run]:
    """Return the quiet runs, or all if there are none."""
    return [run for run in runs if foreign(run) <= _NOISY] or list(runs)


def ratios(runs: Sequence[Run], name: str, base: str) -> list[float]:
    """Return ratios of the normalised rates by round, of the rounds in which both were quiet if there are any."""
    bases = {run.round: run for run in of(runs, base)}
    pairs = [(run, bases[run.round]) for run in of(runs, name) if run.round in bases]
    quiet = [pair for pair in pairs if max(map(foreign, pair)) <= _NOISY]
    return [run.normalised / other.normalised for run, other in quiet or pairs]


def middle(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


def fastest_peer(runs: Sequence[Run]) -> str | None:
    """Return the job system with the highest median normalised rate, apart from ours and the references."""
    names = {run.name for run in runs} - {*_REFERENCES, *PATHS}
    rates = {name: statistics.median(run.normalised for run in kept(of(runs, name))) for name in names}
    return max(rates, key=lambda name: rates[name]) if rates else None


def rows(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Return a row for each contender, ours first: rates, spread, ratios, costs."""
    names = sorted({run.name for run in runs}, key=lambda name: (name not in PATHS, name not in _REFERENCES, name))
    peer = fastest_peer(runs)
    return [_row(runs, name, peer) for name in names]


def _row(runs: Sequence[Run], name: str, peer: str | None) -> dict[str, Any]:
    every = of(runs, name)
    own = kept(every)
    rates = [run.rate for run in own]
    whole = [run.whole_rate for run in own if run.whole_rate is not None]
    return {
        "name": name,
        "runs": len(own),
        "of_runs": len(every),
        "jobs": own[0].jobs,
        "rate": round(statistics.median(rates), 1),
        "lowest": round(min(rates), 1),
        "highest": round(max(rates), 1),
        "whole_rate": _rounded(middle(whole), 1),
        "normalised": round(statistics.median(run.normalised for run in own), 1),
        "producer_rate": _rounded(middle([run.producer_rate for run in own if run.producer_rate is not None]), 1),
        "x_loop": _rounded(middle(ratios(runs, name, LOOP)), 3),
        "x_bulk": _rounded(middle(ratios(runs, name, BULK)), 3),
        "x_peer": _rounded(middle(ratios(runs, name, peer)), 3) if peer else None,
        "x_durable": _rounded(middle(ratios(runs, name, DURABLE)), 3),
        "core_speed": round(statistics.median(run.speed for run in own), 2),
        "foreign": round(statistics.median(map(foreign, own)), 3),
        "cpu_us_all": round(statistics.median(map(_all_cpu, own)), 1),
        **{kind: _costs(own, kind) for kind in ("cpu_us", "mongo", "redis")},
    }


def _all_cpu(run: Run) -> float:
    """Return the CPU time of a snapshot in all processes, in microseconds."""
    return sum(float(spent or 0) for spent in run.costs["cpu_us"].values())


def _costs(runs: Sequence[Run], kind: str) -> dict[str, float]:
    """Return medians by part, of the parts that every run has."""
    costs = [run.costs.get(kind) or {} for run in runs]
    return {
        name: round(statistics.median(each[name] for each in costs), 2)
        for name in costs[0]
        if all(each.get(name) is not None for each in costs)
    }


def latency_rows(found: Sequence[Latency]) -> list[dict[str, Any]]:
    """Return the medians of each contender's p50 and p99 over the rounds."""
    keys = sorted({(each.name, each.rate) for each in found}, key=lambda key: (key[0] != OURS, key))
    made = []
    for name, rate in keys:
        own = [each for each in found if (each.name, each.rate) == (name, rate)]
        p50, p99 = [each.p50_ms for each in own], [each.p99_ms for each in own]
        made.append(
            {
                "name": name,
                "per_second": rate,
                "runs": len(own),
                "jobs": own[0].jobs,
                "p50_ms": round(statistics.median(p50), 2),
                "p50_range": [min(p50), max(p50)],
                "p99_ms": round(statistics.median(p99), 2),
                "p99_range": [min(p99), max(p99)],
            }
        )
    return made


def quickest_peer(found: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the row of the other job system with the lowest p50 at the slow rate, or None without peers."""
    others = [each for each in found if each["name"] not in (OURS, POST, NO_QUEUE)]
    return min(others, key=lambda each: float(each["p50_ms"])) if others else None


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
