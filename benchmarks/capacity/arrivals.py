"""When requests come: the loads of the measurements and of the simulation."""

import random
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Load:
    """Requests over some time.

    `burst` 0: a Poisson process, as of many independent producers. Otherwise `burst` requests come at once, and such
    bursts are evenly spaced.
    """

    rate: float
    """Requests a second."""
    seconds: float
    burst: int = 0
    seed: int = 1

    def times(self) -> list[float]:
        """Return the times in seconds, in order."""
        if self.burst:
            return [number // self.burst * self.burst / self.rate for number in range(round(self.rate * self.seconds))]
        dice = random.Random(self.seed)
        at, found = dice.expovariate(self.rate), []
        while at < self.seconds:
            found.append(at)
            at += dice.expovariate(self.rate)
        return found

    def as_fields(self) -> dict[str, Any]:
        return asdict(self)
