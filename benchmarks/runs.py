"""One run of a contender: round, rate and costs."""

from dataclasses import asdict, dataclass, field
from typing import Any

LOOP, BULK, NAIVE = "pymongo_loop_2", "pymongo_bulk_2", "celery_naive_here"
"""The references: PyMongo one at a time and in chunks of 100, two processes each; Celery with its defaults."""


@dataclass
class Run:
    """`rate` is in requests a second, from the first begun to the last done. `costs`: see `Meters.stop`."""

    name: str
    round: int
    jobs: int
    rate: float
    costs: dict[str, Any] = field(default_factory=dict)
    whole_rate: float | None = None
    """The rate including the time in which requests were accepted or added beforehand, if they were."""
    finish_seconds: float | None = None
    """From the last event until all entries were finished."""
    producer_rate: float | None = None
    """How many requests a second one producer submits, one after the other."""

    @property
    def speed(self) -> float:
        """The cores' speed during the run; 1.0 is the peers' reference."""
        return float(self.costs.get("core_speed") or 1.0)

    @property
    def normalised(self) -> float:
        """The rate as it would be at core speed 1.0."""
        return self.rate / self.speed

    def as_fields(self) -> dict[str, Any]:
        """Return the fields for the JSON file."""
        rounded = {name: round(each, 3) if isinstance(each, float) else each for name, each in asdict(self).items()}
        return rounded | {"normalised": round(self.normalised, 1)}
