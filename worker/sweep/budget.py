"""The time that a sweep may take, shared by all its repairs."""

import time

_NEARLY_OVER = 0.15


class Budget:
    """A span of time that begins now."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._ends_at = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds left, 0 at least."""
        return max(self._ends_at - time.monotonic(), 0.0)

    @property
    def is_over(self) -> bool:
        return self.left == 0.0

    @property
    def is_nearly_over(self) -> bool:
        """Whether so little is left that a slow answer may have come too late."""
        return self.left < _NEARLY_OVER * self._seconds

    def share(self, seconds: float) -> "Budget":
        """Return a budget of at most so many seconds that ends no later than this one."""
        return Budget(min(seconds, self.left))
