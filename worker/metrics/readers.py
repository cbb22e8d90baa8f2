"""Figures that are read again when they are old: no scraper, however eager, keeps the system busy with itself."""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from worker.errors import TransientError
from worker.log import get_logger

log = get_logger(__name__)

Figures = TypeVar("Figures")

_SHARE = 20
"""A reading lasts at least so many times as long as it took: at most a twentieth of the time goes into it."""


class Cached(Generic[Figures]):
    """The figures, at most `lasts` seconds old or longer where they are dear; None while a server is away."""

    def __init__(self, name: str, read: Callable[[], Figures], lasts: float) -> None:
        self._name = name
        self._read = read
        self._lasts = lasts
        self.last: Figures | None = None
        self._due = 0.0

    def __call__(self) -> Figures | None:
        if time.monotonic() >= self._due:
            self.refresh()
        return self.last

    def refresh(self) -> None:
        """Reads them now. One thread at a time."""
        began = time.monotonic()
        try:
            self.last = self._read()
        except TransientError as error:
            self.last = None
            log.info("measures_missing", of=self._name, code=error.code, reason=error.message)
        took = time.monotonic() - began
        self._due = began + took + max(self._lasts, _SHARE * took)

    @property
    def is_due(self) -> bool:
        return time.monotonic() >= self._due


class Background(Generic[Figures]):
    """The same, read in a thread of its own: the answer is the last one. Only the first is waited for, a little."""

    def __init__(self, name: str, read: Callable[[], Figures], lasts: float, wait: float = 1.0) -> None:
        self._cached = Cached(name, read, lasts)
        self._name = name
        self._wait = wait
        self._thread: threading.Thread | None = None

    def __call__(self) -> Figures | None:
        if self._thread is not None and not self._thread.is_alive():
            self._thread = None
        if self._thread is None and self._cached.is_due:
            self._thread = threading.Thread(target=self._cached.refresh, name=f"measures-{self._name}", daemon=True)
            self._thread.start()
            self._thread.join(self._wait)
            self._wait = 0.0
        return self._cached.last
