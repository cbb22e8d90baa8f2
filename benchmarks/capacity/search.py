"""Looks for the fewest processes and cores that serve a load."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from benchmarks.capacity.arrivals import Load
from benchmarks.capacity.costs import Costs, Installation
from benchmarks.capacity.model import CHUNK, Prediction, predict

_SECONDS = 20.0
_MOST = 64
_PARTS = {"worker": "workers", "listener": "listeners", "mongod": "mongod_cores"}
_FULL, _IDLE = 0.98, 0.2


@dataclass(frozen=True)
class Needed:
    """An installation that is large enough."""

    installation: Installation
    prediction: Prediction

    def as_fields(self) -> dict[str, Any]:
        asked = asdict(self.installation)
        return {
            **{name: asked[name] for name in ("workers", "listeners", "mongod_cores", "write_ms", "core_speed")},
            "p50_ms": round(1e3 * self.prediction.p50, 1),
            "p99_ms": round(1e3 * self.prediction.p99, 1),
            "utilization": {name: round(each, 2) for name, each in self.prediction.utilization.items()},
            "occupied": {name: round(each, 2) for name, each in self.prediction.occupied.items()},
        }


def search(costs: Costs, base: Installation, rate: float, p99: float) -> Needed | None:
    """Return an installation that serves `rate` requests a second within `p99` seconds, or None.

    Begins with one of each, and adds to the part that is busiest, until it is enough; Redis is always one.
    """
    times = Load(rate, _SECONDS).times()
    tried = replace(base, workers=1, listeners=1, mongod_cores=1.0)
    while max(tried.workers, tried.mongod_cores) <= _MOST:
        found = predict(costs, tried, times)
        if found.p99 <= p99:
            return _with_fewer_workers(costs, Needed(tried, found), times, p99)
        pressure = {**found.utilization, "worker": found.occupied["worker"]}
        part = max(_PARTS, key=lambda name: pressure[name])
        if found.utilization["redis"] > _FULL or pressure[part] < _IDLE:
            return None
        value = getattr(tried, _PARTS[part])
        # In steps of a quarter, because each step is a simulation.
        tried = replace(tried, **{_PARTS[part]: value + max(1, math.floor(value / 4))})
    return None


def _with_fewer_workers(costs: Costs, enough: Needed, times: Sequence[float], p99: float) -> Needed:
    """Take away the workers that are not needed."""
    while enough.installation.workers > 1:
        tried = replace(enough.installation, workers=enough.installation.workers - 1)
        found = predict(costs, tried, times)
        if found.p99 > p99:
            break
        enough = Needed(tried, found)
    return enough


def sustained(costs: Costs) -> dict[str, dict[str, float]]:
    """Return the requests a second for which one core of each part is enough: single ones, and in full chunks."""
    batch = 5 * CHUNK
    shares = {
        "single": dict.fromkeys(("batch", "message", "run"), 1.0),
        "full": {"batch": 1 / batch, "message": 1 / CHUNK, "run": 1 / CHUNK},
    }
    return {
        part: {
            kind: round(1e6 / sum(share.get(name, 1.0) * cost for name, cost in _of_request(getattr(costs, part))))
            for kind, share in shares.items()
        }
        for part in (*_PARTS, "redis")
    }


def _of_request(costs: Mapping[str, float]) -> list[tuple[str, float]]:
    return [(name, cost) for name, cost in costs.items() if name not in {"second", "counted"}]
