"""The time limit of a sweep, which all its repairs share."""

import time

_NEARLY_OVER = 0.15
"""The share of the time below which it counts as nearly over."""


class Budget:
    """A time limit that starts when the object is created."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._ends_at = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """The seconds left, never below 0."""
        return max(self._ends_at - time.monotonic(), 0.0)

    @property
    def is_over(self) -> bool:
        """Whether the time is used up."""
        return self.left == 0.0

    @property
    def is_nearly_over(self) -> bool:
        """Whether so little time is left that a slow answer of a server may have exceeded it."""
        return self.left < _NEARLY_OVER * self._seconds

    def share(self, seconds: float) -> "Budget":
        """Return a budget of at most `seconds` that ends no later than this one."""
        return Budget(min(seconds, self.left))
