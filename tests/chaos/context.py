"""What a fault works on, and how it is recorded."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

from chaos.collector import Collector
from chaos.servers import Servers
from chaos.system import System
from chaos.witness import Witness

if TYPE_CHECKING:
    from chaos.dataset import Contact, Dataset
    from chaos.driver import Driver

Fault = Callable[["Context"], str]
"""Injects a fault, waits until what it disturbed is back, and returns what it did, in a few words."""


@dataclass(frozen=True)
class Injected:
    """A fault that was injected. Times are in seconds since 1970."""

    kind: str
    began: float
    ended: float
    """When its cause was over: recovery counts from here."""
    description: str
    kills: int = 0
    struck: float = 0.0
    """When a process, a server or an election was struck, after which nothing more was done to it; 0: see `ended`."""


@dataclass
class Context:
    """Servers and processes under test. `dice` belong to one lane of faults."""

    servers: Servers
    system: System
    collector: Collector
    witness: Witness
    dice: random.Random
    stop: threading.Event
    driver: "Driver | None" = None
    """The driver, once it runs."""
    dataset: "Dataset | None" = None
    erased: list["Contact"] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=count)
    """Number the requests of contacts to erase."""
    injected: list[Injected] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    """Faults that could not be injected, with the reason."""
    kills: int = 0
    struck: float = 0.0
    """Of the current fault."""

    def strike(self, kills: int = 0) -> None:
        """The current fault happens now: what follows, until everything is back, is recovery."""
        self.kills += kills
        self.struck = time.time()

    def pause(self, seconds: float) -> None:
        """Waits; cut short when the run ends."""
        self.stop.wait(seconds)

    @contextmanager
    def store_disturbed(self) -> Iterator[None]:
        """Tells the collector that reads within the block, and for a while after it, may meet a deposed primary."""
        self.collector.store_disturbed_at = float("inf")
        try:
            yield
        finally:
            self.collector.store_disturbed_at = time.monotonic()
