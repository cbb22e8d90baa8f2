"""The path of a request through the intake stream, with the rules by which the product forms batches.

    XADD → listener: a batch → ledger (a write at majority) → wake-ups → worker: a run → transaction → event

Each step is CPU time of a part, and the two writes are waits as well. Where batches form, what decides is the length of
the queues, as in `worker.intake.batch` and `worker.runs.batching`, whose constants are used here.
"""

import random
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.capacity.costs import Costs, Installation
from benchmarks.capacity.engine import Cores, Process, Queues, Simulation, Wait
from benchmarks.pacing import quantile
from worker.domain.fair_shares import smallest
from worker.intake.batch import CHUNKS, INTERACTIVE_LIMIT, SMALLEST_CHUNK
from worker.intake.listener import COALESCE_SECONDS
from worker.runs.batching import BACKLOG, PAUSE_SECONDS, SHORT_QUEUE
from worker.stores.wakeups import BULK, INTERACTIVE, MAINTENANCE

CHUNK = 200
"""The default of SNAPSHOTS_CHUNK_SIZE. A batch of the listener has at most five times as many entries."""
SWEEP_SECONDS = 5.0
_CONTINUE_SECONDS = 4.0
_COUNTED = 50_000
"""Requests that the comparison of a sweep counts in full at most."""
_STREAM = "stream"
WARM_UP_SECONDS = 2.0
"""Requests of the first seconds do not count, here and in the measurement."""
_PATIENCE = 30.0
_TICK_SECONDS = 0.1


@dataclass(slots=True)
class Request:
    """`at`: when its entry came; `claimed`: whether a run has taken it."""

    at: float
    organization: int
    claimed: bool = False


@dataclass(frozen=True)
class Prediction:
    """The waits of the requests and the load of the parts."""

    waits: Sequence[float]
    """Seconds from the entry to its event."""
    utilization: Mapping[str, float]
    """The share of the cores that are used, by part."""
    occupied: Mapping[str, float]
    """The share of the time in which a worker, or a listener, has something to do: also while it waits for MongoDB."""
    open: int
    """Requests that have no event yet."""

    @property
    def p50(self) -> float:
        return quantile(self.waits, 0.5)

    @property
    def p99(self) -> float:
        """The 99th percentile of the waits in seconds; infinite if the load exceeds the capacity."""
        return float("inf") if self.open else quantile(self.waits, 0.99)


def predict(costs: Costs, installation: Installation, arrivals: Sequence[float], seed: int = 1) -> Prediction:
    """Simulate these arrivals (seconds, in order) until all have their events, or for some time after the last."""
    pipeline = Pipeline(costs, installation, seed)
    pipeline.start(arrivals)
    pipeline.run(arrivals[-1])
    return pipeline.result(len([at for at in arrivals if at >= WARM_UP_SECONDS]))


class Pipeline:
    """One simulation."""

    def __init__(self, costs: Costs, installation: Installation, seed: int) -> None:
        self._costs, self._has = costs, installation
        self._dice = random.Random(seed)
        self._simulation = Simulation()
        self._stream = Queues([_STREAM])
        self._queues = Queues([INTERACTIVE, BULK, MAINTENANCE])
        self._waiting: deque[Request] = deque()
        """Requests of the interactive queue, as the ledger has them: a run may take them ahead of their messages."""
        self._waits: list[float] = []
        self._arrived = self._done = 0
        self._ended = 0.0
        self._busy = dict.fromkeys(("worker", "listener"), 0.0)
        self._parts: dict[str, list[tuple[Cores, float]]] = {}
        self._shared = Cores(self._simulation, installation.shared_cores) if installation.shared_cores else None
        self._mongod = self._cores("mongod", installation.mongod_cores)
        self._redis = self._cores("redis", 1.0)

    def _cores(self, part: str, cores: float) -> Cores:
        """Return cores for a process of a part: its own, or those that all share."""
        if self._shared and self._has.shared_cores:
            self._parts["all"] = [(self._shared, self._has.shared_cores)]
            return self._shared
        own = Cores(self._simulation, cores)
        self._parts.setdefault(part, []).append((own, cores))
        return own

    def start(self, arrivals: Sequence[float]) -> None:
        for part, count, make in (
            ("listener", self._has.listeners, self._listener),
            ("worker", self._has.workers, self._worker),
        ):
            for _ in range(count):
                cores = self._cores(part, 1.0)
                self._simulation.start(make(cores))
                self._simulation.start(self._background(part, cores))
        self._simulation.start(self._background("mongod", self._mongod))
        self._simulation.start(self._background("redis", self._redis))
        self._simulation.start(self._beat())
        self._simulation.start(self._arrive(arrivals))

    def run(self, last: float) -> None:
        """Run until all is done."""
        until = last
        while self._simulation.now < last or (self._open and until < last + _PATIENCE):
            until += 0.5
            self._simulation.run(until)
            self._ended = until

    def result(self, expected: int) -> Prediction:
        used = {name: [core.used / (many * self._ended) for core, many in all_] for name, all_ in self._parts.items()}
        utilization = {name: sum(each) / len(each) for name, each in used.items()}
        processes = {"worker": self._has.workers, "listener": self._has.listeners}
        occupied = {name: self._busy[name] / (many * self._ended) for name, many in processes.items()}
        return Prediction(self._waits, utilization, occupied, expected - len(self._waits))

    # --- the parts ------------------------------------------------------------------------------------

    def _arrive(self, arrivals: Sequence[float]) -> Process:
        for at in arrivals:
            yield self._simulation.sleep(at - self._simulation.now)
            self._arrived += 1
            if self._shared:
                self._shared.work(self._seconds("load", call=1))(_ignore)
            self._stream.put(_STREAM, Request(at, self._dice.randrange(self._has.organizations)))

    def _listener(self, cores: Cores) -> Process:
        while True:
            _, first = yield self._stream.get([_STREAM])
            began = self._simulation.now
            batch = [first, *self._stream.take(_STREAM, 5 * CHUNK - 1)]
            if self._needs_chunks(batch) and len(batch) < CHUNK:
                yield self._simulation.sleep(COALESCE_SECONDS)
                batch += self._stream.take(_STREAM, 5 * CHUNK - len(batch))
            by_queue = self._sort(batch)
            before, after = self._costs.before_event, 1 - self._costs.before_event
            yield cores.work(self._seconds("listener", batch=before, entry=len(batch)))
            yield self._redis.work(self._seconds("redis", batch=before))
            yield self._mongod.work(self._seconds("mongod", batch=1, entry=len(batch)))
            yield self._write()
            parts = CHUNKS if BULK not in by_queue or self._queues.length(BULK) < CHUNKS else 1
            chunk = min(max(SMALLEST_CHUNK, -(-len(batch) // parts)), CHUNK)
            for queue, requests in by_queue.items():
                size = 1 if queue == INTERACTIVE else chunk
                messages = [requests[first : first + size] for first in range(0, len(requests), size)]
                yield cores.work(self._seconds("listener", message=len(messages)))
                yield self._redis.work(self._seconds("redis", message=len(messages)))
                if queue == INTERACTIVE:
                    self._waiting.extend(requests)
                for message in messages:
                    self._queues.put(queue, message)
            yield cores.work(self._seconds("listener", batch=after))
            yield self._redis.work(self._seconds("redis", batch=after))
            self._busy["listener"] += self._simulation.now - began

    def _needs_chunks(self, batch: Sequence[Request]) -> bool:
        return len(batch) + self._queues.length(INTERACTIVE) > INTERACTIVE_LIMIT

    def _sort(self, batch: Sequence[Request]) -> dict[str, list[Request]]:
        """Sort a batch by the queue of its requests."""
        if not self._needs_chunks(batch):
            return {INTERACTIVE: list(batch)}
        favoured = len(batch) > INTERACTIVE_LIMIT
        few = smallest((each.organization for each in batch), INTERACTIVE_LIMIT) if favoured else set()
        by_queue: dict[str, list[Request]] = {}
        for each in batch:
            by_queue.setdefault(INTERACTIVE if each.organization in few else BULK, []).append(each)
        return by_queue

    def _worker(self, cores: Cores) -> Process:
        order = deque([INTERACTIVE, BULK, MAINTENANCE])
        before, next_lookup = self._costs.before_event, 0.0
        while True:
            name, message = yield self._queues.get(tuple(order))
            order.remove(name)
            order.append(name)
            began = self._simulation.now
            yield cores.work(self._seconds("worker", message=before))
            if name == MAINTENANCE:
                counted = min(self._done, _COUNTED)
                yield self._mongod.work(self._seconds("sweep", sweep=1, entry=counted))
            elif name == BULK:
                yield from self._run(cores, message)
            else:
                mine = self._claim(message)
                if self._queues.length(name) > SHORT_QUEUE and (mine or began >= next_lookup):
                    ahead = self._claim_waiting(CHUNK - len(mine))
                    next_lookup = next_lookup if ahead else began + PAUSE_SECONDS
                    mine += ahead
                while mine:
                    yield from self._run(cores, mine)
                    continues = len(mine) >= BACKLOG and self._simulation.now < began + _CONTINUE_SECONDS
                    mine = self._claim_waiting(CHUNK) if continues else []
            yield cores.work(self._seconds("worker", message=1 - before))
            self._busy["worker"] += self._simulation.now - began

    def _claim(self, requests: Sequence[Request]) -> list[Request]:
        free = [each for each in requests if not each.claimed]
        for each in free:
            each.claimed = True
        return free

    def _claim_waiting(self, most: int) -> list[Request]:
        claimed: list[Request] = []
        while self._waiting and len(claimed) < most:
            claimed += self._claim([self._waiting.popleft()])
        return claimed

    def _run(self, cores: Cores, requests: Sequence[Request]) -> Process:
        count, before, after = len(requests), self._costs.before_event, 1 - self._costs.before_event
        yield cores.work(self._seconds("worker", run=before, request=count))
        yield self._redis.work(self._seconds("redis", request=count))
        yield self._mongod.work(self._seconds("mongod", run=before, request=count))
        yield self._write()
        now = self._simulation.now
        self._waits += [now - each.at for each in requests if each.at >= WARM_UP_SECONDS]
        self._done += count
        yield cores.work(self._seconds("worker", run=after))
        yield self._mongod.work(self._seconds("mongod", run=after))

    def _beat(self) -> Process:
        yield self._simulation.sleep(self._dice.uniform(0, SWEEP_SECONDS))
        while True:
            self._queues.put(MAINTENANCE, None)
            yield self._simulation.sleep(SWEEP_SECONDS)

    def _background(self, part: str, cores: Cores) -> Process:
        """What a process does without any requests."""
        while True:
            yield self._simulation.sleep(_TICK_SECONDS)
            cores.work(self._seconds(part, second=_TICK_SECONDS))(_ignore)

    # --- costs ----------------------------------------------------------------------------------------

    @property
    def _open(self) -> bool:
        return self._done < self._arrived

    def _seconds(self, part: str, **counts: float) -> float:
        costs: Mapping[str, float] = getattr(self._costs, part)
        spread = self._costs.spread
        factor = self._dice.lognormvariate(-(spread**2) / 2, spread)
        return 1e-6 * factor * sum(costs[name] * count for name, count in counts.items()) / self._has.core_speed

    def _write(self) -> Wait:
        """Wait for a write at majority, and for what else a step waits."""
        values = self._costs.write_ms
        at = self._dice.uniform(0, len(values) - 1)
        lower = int(at)
        value = values[lower] + (at - lower) * (values[min(lower + 1, len(values) - 1)] - values[lower])
        return self._simulation.sleep((value + self._costs.delay_ms + self._has.write_ms) / 1e3)


def _ignore(*_: Any) -> None:
    """Nothing waits for this."""
