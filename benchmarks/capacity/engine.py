"""A small discrete-event simulation: processes are generators, which yield what they wait for.

For example:

    def process() -> Process:
        yield simulation.sleep(0.5)
        yield cores.work(0.003)
        item = yield queue.get()
"""

from collections import deque
from collections.abc import Callable, Generator, Sequence
from functools import partial
from heapq import heappop, heappush
from itertools import count
from typing import Any

Resume = Callable[..., None]
Wait = Callable[[Resume], None]
"""Begins a wait, and calls `resume` at its end, with the result if there is one."""
Process = Generator[Wait, Any, None]


class Simulation:
    """The clock and the scheduled events. Times are in seconds."""

    def __init__(self) -> None:
        self.now = 0.0
        self._order = count()
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []

    def at(self, time: float, what: Callable[[], None]) -> None:
        heappush(self._agenda, (time, next(self._order), what))

    def run(self, until: float) -> None:
        while self._agenda and self._agenda[0][0] <= until:
            self.now, _, what = heappop(self._agenda)
            what()

    def start(self, process: Process) -> None:
        self._step(process)

    def _step(self, process: Process, value: Any = None) -> None:
        try:
            wait = process.send(value)
        except StopIteration:
            return
        wait(partial(self._step, process))

    def sleep(self, seconds: float) -> Wait:
        return lambda resume: self.at(self.now + seconds, resume)


class Cores:
    """Cores that all work on them shares equally; one piece of work uses at most one core."""

    def __init__(self, simulation: Simulation, cores: float) -> None:
        self._simulation, self._cores = simulation, cores
        self._order = count()
        self._active: list[tuple[float, int, Resume]] = []
        """By the service at which each ends."""
        self._service = self._updated = 0.0
        """CPU seconds that each piece of work has received which was there all the time, and up to when."""
        self._plan = 0
        self.used = 0.0
        """CPU seconds of all work so far."""

    def work(self, seconds: float) -> Wait:
        """Wait until `seconds` of CPU time are done."""

        def begin(resume: Resume) -> None:
            self._advance()
            heappush(self._active, (self._service + seconds, next(self._order), resume))
            self._schedule()

        return begin

    @property
    def _rate(self) -> float:
        return min(1.0, self._cores / len(self._active)) if self._active else 0.0

    def _advance(self) -> None:
        served = self._rate * (self._simulation.now - self._updated)
        self._service += served
        self.used += served * len(self._active)
        self._updated = self._simulation.now

    def _schedule(self) -> None:
        self._plan += 1  # earlier plans are void
        if self._active:
            left = max(self._active[0][0] - self._service, 0.0)
            self._simulation.at(self._simulation.now + left / self._rate, partial(self._finish, self._plan))

    def _finish(self, plan: int) -> None:
        if plan != self._plan:
            return
        self._advance()
        done = [heappop(self._active)]  # the one that was planned, whatever rounding says
        while self._active and self._active[0][0] <= self._service:
            done.append(heappop(self._active))
        self._schedule()
        for _, _, resume in done:
            resume()


class Queues:
    """Lists of a broker by name. Consumers wait in line, and each tries the names in an order of its own."""

    def __init__(self, names: Sequence[str]) -> None:
        self._items: dict[str, deque[Any]] = {name: deque() for name in names}
        self._waiting: deque[tuple[Sequence[str], Resume]] = deque()

    def length(self, name: str) -> int:
        return len(self._items[name])

    def put(self, name: str, item: Any) -> None:
        self._items[name].append(item)
        if self._waiting:
            names, resume = self._waiting.popleft()
            self.get(names)(resume)

    def get(self, names: Sequence[str]) -> Wait:
        """Wait for the next item of the first list that has one; the result is the list's name and the item."""

        def begin(resume: Resume) -> None:
            for name in names:
                if self._items[name]:
                    resume((name, self._items[name].popleft()))
                    return
            self._waiting.append((names, resume))

        return begin

    def take(self, name: str, most: int) -> list[Any]:
        """Remove and return the next items, without waiting."""
        items = self._items[name]
        return [items.popleft() for _ in range(min(most, len(items)))]
