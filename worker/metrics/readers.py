"""Reads figures in background threads, so that slow servers do not delay scrapes and scrapes do not load servers."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from worker.errors import TransientError
from worker.log import get_logger

log = get_logger(__name__)

Figures = TypeVar("Figures")

_MAX_AGE = 120.0
"""Age in seconds from which on figures are not shown, because the server is too slow or cannot be reached."""


@dataclass(frozen=True, slots=True)
class Reuse:
    """How long figures are reused: `seconds`, or `cost_factor` times as long as it took to read them.

    A factor of 20 limits the time spent on reading to a twentieth.
    """

    seconds: float = 2.0
    cost_factor: float = 20.0


NEVER = Reuse(0.0, 0.0)


class Reader(Generic[Figures]):
    """Figures of one server. One thread uses it; the read itself runs in another."""

    def __init__(self, name: str, read: Callable[[], Figures], reuse: Reuse) -> None:
        """`read` may raise TransientError."""
        self._name = name
        self._read = read
        self._reuse = reuse
        self._thread: threading.Thread | None = None
        self._figures: Figures | None = None
        self._read_at = 0.0
        self._due = 0.0

    def start(self) -> None:
        """Start a read if one is due and none is in progress."""
        if self._thread is None and time.monotonic() >= self._due:
            self._thread = threading.Thread(target=self._refresh, name=f"metrics-{self._name}", daemon=True)
            self._thread.start()

    def wait(self, seconds: float) -> bool:
        """Wait for the read in progress, if any. Returns whether the newest read has succeeded."""
        if self._thread is not None:
            self._thread.join(max(seconds, 0.0))
            if self._thread.is_alive():
                return False
            self._thread = None
        return self._figures is not None

    @property
    def figures(self) -> Figures | None:
        """The newest figures; None if the last read failed, or if they are too old."""
        return self._figures if time.monotonic() - self._read_at < _MAX_AGE else None

    def _refresh(self) -> None:
        began = time.monotonic()
        try:
            self._figures = self._read()
        except TransientError as error:
            self._figures = None
            log.info("metrics_unavailable", source=self._name, code=error.code, reason=error.message)
        except Exception:
            # The boundary of the thread: an error in one source must not stop the others, nor stop this one forever.
            self._figures = None
            log.exception("metrics_unavailable", source=self._name, code="unexpected")
        self._read_at = time.monotonic()
        self._due = self._read_at + max(self._reuse.seconds, self._reuse.cost_factor * (self._read_at - began))
