"""What a fault has at hand, and how one is written down."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from chaos.collector import Collector
from chaos.servers import Servers
from chaos.system import System

Fault = Callable[["Arena"], str]
"""Does it, and waits until what it disturbed is there again; gives what was done, in a few words."""


@dataclass(frozen=True)
class Done:
    """A fault that happened. Times in seconds since 1970."""

    kind: str
    began: float
    ended: float
    """When the cause was over: from here on recovery counts."""
    said: str
    kills: int = 0
    struck: float = 0.0
    """When a process, a server or an election was struck, after which nothing more was done to it; 0: see `ended`."""


@dataclass
class Arena:
    """Servers and processes under test. The dice are one lane's own."""

    servers: Servers
    system: System
    collector: Collector
    dice: random.Random
    stop: threading.Event
    done: list[Done] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    """Faults that could not be done, with the reason."""
    kills: int = 0
    struck: float = 0.0
    """By the fault under way, and when."""

    def strike(self, kills: int = 0) -> None:
        """The fault under way happens now: what follows, until all is back, is recovery."""
        self.kills += kills
        self.struck = time.time()

    def pause(self, seconds: float) -> None:
        """Cut short when the run ends."""
        self.stop.wait(seconds)

    @contextmanager
    def store_disturbed(self) -> Iterator[None]:
        """Reads within the block, and a while after it, may meet a deposed primary."""
        self.collector.store_disturbed_at = float("inf")
        try:
            yield
        finally:
            self.collector.store_disturbed_at = time.monotonic()
