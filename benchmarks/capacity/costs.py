"""What the parts of the pipeline cost, as `fit` found it and `fitted.json` keeps it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

FITTED = Path(__file__).parent / "fitted.json"


@dataclass(frozen=True)
class Costs:
    """CPU time in µs at core speed 1.0 (see `benchmarks.machine`), by what is counted."""

    listener: Mapping[str, float]
    """For each `second`, `batch` of entries, `entry`, and `message` that it publishes."""
    worker: Mapping[str, float]
    """For each `second`, `message`, `run`, and `request`."""
    mongod: Mapping[str, float]
    """For each `second`, `batch`, `entry`, `run`, `request`, and request that a sweep counts (`counted`)."""
    redis: Mapping[str, float]
    """For each `second`, `batch`, `message`, `request`."""
    load: Mapping[str, float]
    """The producer of the measurement, for each `call`, with which it adds one entry or those that are due."""
    sweep: Mapping[str, float]
    """Of mongod, for a `sweep`, and for each `entry` that it counts."""
    write_ms: list[float]
    """What a journaled write at majority takes: values in order, from the least to the greatest."""
    before_event: float
    """The share of what a batch, a message and a run cost that comes before their result."""
    spread: float
    """Sigma of the lognormal factor, of mean 1, by which each piece of work takes more or less than that."""
    delay_ms: float
    """What a batch of the listener, and a run, takes beyond CPU time and the write."""
    fitted: Mapping[str, Any] = field(default_factory=dict)
    """Date, machine, and the measurements."""

    def save(self, path: Path = FITTED) -> None:
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, path: Path = FITTED) -> Self:
        return cls(**json.loads(path.read_text()))


@dataclass(frozen=True)
class Installation:
    """How many processes and cores each part has.

    `shared_cores`: the number of cores if all parts, and the producers, share one machine; None if each has its own.
    """

    workers: int = 2
    listeners: int = 1
    mongod_cores: float = 2.0
    shared_cores: float | None = None
    core_speed: float = 1.0
    write_ms: float = 0.0
    """Milliseconds by which a majority write takes longer than measured: network, other members, a slower disk."""
    organizations: int = 5
