"""Measures a load on the real pipeline: the work done, the CPU time of each part, and how long requests waited."""

import json
import re
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from statistics import quantiles
from typing import Any

from pymongo import WriteConcern

from benchmarks.actors import Actor
from benchmarks.capacity.arrivals import Load
from benchmarks.capacity.model import WARM_UP_SECONDS
from benchmarks.meters import Meters
from benchmarks.pacing import summary
from benchmarks.pipeline import Pipeline
from benchmarks.session import Session
from worker.stores.wakeups import QUEUES

PARTS = {"worker1": "worker", "worker2": "worker", "listener": "listener", "mongod": "mongod", "valkey": "redis"}
"""Processes that are measured, and the parts of the model to which they belong."""
_RUN = re.compile(r'"requests": (\d+).*"requests_run"|"requests_run".*"requests": (\d+)')
_SWEEP = re.compile(r"snapshots\.sweep\[.*succeeded in ([\d.]+)s")
_LOOK_SECONDS = 0.2


@dataclass(frozen=True)
class Phase:
    """A load and what was measured. `cpu`: seconds by part; `counts`: what was done; `waits`: p50 and p99 in ms.

    A `message` is one that was published, a `task` one that a worker took.
    """

    name: str
    load: Mapping[str, Any]
    seconds: float
    core_speed: float
    foreign: float
    """The share of all cores that others used."""
    cpu: Mapping[str, float]
    counts: Mapping[str, float]
    sweeps: list[float]
    """Seconds that each sweep took."""
    ledger: int
    """Requests in the ledger at the end."""
    waits: Mapping[str, float]

    def as_fields(self) -> dict[str, Any]:
        return asdict(self)


class Measuring:
    """Measures phases, one after the other, on the same processes."""

    def __init__(self, session: Session, running: Pipeline) -> None:
        self._session, self._running = session, running
        self._phases = 0

    def idle(self, name: str, seconds: float) -> Phase:
        """Measure what everything costs without requests."""
        return self._measured(name, {}, lambda meters: self._sleep(meters, seconds))

    def load(self, name: str, load: Load, held: str = "") -> Phase:
        """Measure a load until all is done, or until all is accepted while processes named `held...` are stopped."""
        self._phases += 1
        tag = f"phase{self._phases}"
        order = {"load": load.as_fields(), "contacts": self._session.options.amounts.contacts, "tag": tag}
        events, accepted = self._events(), self._ledger()
        block: AbstractContextManager[None] = self._running.held(held) if held else nullcontext()
        with Actor(self._session, "benchmarks.capacity.producer", json.dumps(order)) as producer, block:

            def send(meters: Meters) -> dict[str, Any]:
                producer.cue()
                report = producer.report(meters.look)
                if held:
                    self._until(meters, lambda: self._ledger() - accepted >= len(report["added"]))
                else:
                    self._until(meters, lambda: self._events() - events >= len(report["added"]))
                return report

            return self._measured(name, load.as_fields(), send)

    def rest(self, name: str) -> Phase:
        """Measure what was left while a part was stopped."""
        return self._measured(name, {}, lambda meters: self._until(meters, self._all_sent))

    # --- one phase ------------------------------------------------------------------------------------

    def _measured(self, name: str, load: Mapping[str, Any], act: Callable[[Meters], Mapping[str, Any] | None]) -> Phase:
        meters = self._running.meters()
        offsets = {part: path.stat().st_size for part, path in self._logs.items()}
        before, waiting = self._calls(), self._messages()
        events, began = self._last_event(), time.monotonic()
        meters.start()
        report = act(meters) or {}
        result = meters.stop(1, {"producer": report.get("cpu", 0.0)})
        seconds = time.monotonic() - began
        after = self._calls()
        logged = "".join(path.read_bytes()[offsets[part] :].decode() for part, path in self._logs.items())
        runs = [int(one or other) for one, other in _RUN.findall(logged)]
        cpu = dict.fromkeys(PARTS.values(), 0.0)
        for process, part in PARTS.items():
            cpu[part] += result["cpu_us"][process] / 1e6
        counts = {
            "batch": after["xack"] - before["xack"],
            "entry": len(report.get("added", ())),
            "call": report.get("calls", 0),
            "message": after["lpush"] - before["lpush"],
            "task": after["lpush"] - before["lpush"] + waiting - self._messages(),
            "run": len(runs),
            "request": sum(runs),
        }
        return Phase(
            name=name,
            load=load,
            seconds=seconds,
            core_speed=result["core_speed"],
            foreign=result["foreign"],
            cpu=cpu | {"load": report.get("cpu", 0.0)},
            counts=counts,
            sweeps=[float(each) for each in _SWEEP.findall(logged)],
            ledger=self._ledger(),
            waits=self._waits(report.get("added", {}), events),
        )

    @property
    def _logs(self) -> dict[str, Any]:
        return {name: path for name, path in self._running.logs.items() if name.startswith("worker")}

    def _messages(self) -> int:
        return sum(int(self._session.redis.llen(queue)) for queue in QUEUES)

    def _calls(self) -> dict[str, int]:
        statistics: Any = self._session.redis.info("commandstats")
        return {name: statistics.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("xack", "lpush")}

    def _waits(self, added: Mapping[str, int], after: bytes) -> dict[str, float]:
        """Return p50 and p99 from each entry's arrival in the stream to that of its event, by Redis's clock."""
        if not added:
            return {}
        done = self._event_times(after)
        first = min(added.values()) + 1e3 * WARM_UP_SECONDS
        waits = [(done[key] - at) / 1e3 for key, at in added.items() if key in done and at >= first]
        return {"requests": len(waits), **summary(waits)} if waits else {}

    # --- the event stream -----------------------------------------------------------------------------

    def _events(self) -> int:
        return int(self._session.redis.xlen(self._session.settings.events_stream))

    def _last_event(self) -> bytes:
        last: Any = self._session.redis.xrevrange(self._session.settings.events_stream, count=1)
        return bytes(last[0][0]) if last else b"0-0"

    def _event_times(self, after: bytes) -> dict[str, int]:
        """Return when each event came, in ms, by the request's id."""
        found: dict[str, int] = {}
        stream: Any = self._session.redis
        while page := stream.xrange(self._session.settings.events_stream, min=b"(" + after, count=5000):
            for key, fields in page:
                found.setdefault(json.loads(fields[b"event"])["data"]["requestId"], int(key.split(b"-")[0]))
            after = page[-1][0]
        return found

    # --- waiting --------------------------------------------------------------------------------------

    def _ledger(self) -> int:
        return self._session.database[self._session.settings.requests_collection].estimated_document_count()

    def _all_sent(self) -> bool:
        ledger = self._session.database[self._session.settings.requests_collection]
        return ledger.count_documents({"status": "accepted"}, limit=1) == 0

    def _sleep(self, meters: Meters, seconds: float) -> None:
        until = time.monotonic() + seconds
        self._until(meters, lambda: time.monotonic() >= until)

    def _until(self, meters: Meters, is_over: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 120
        while not is_over():
            if time.monotonic() > deadline:
                raise SystemExit("The pipeline did not finish its load within two minutes.")
            meters.look()
            time.sleep(_LOOK_SECONDS)


def write_times(session: Session, count: int = 200) -> list[float]:
    """Return how long single journaled writes at majority take, in ms: 21 values in order."""
    collection = session.database["capacity_writes"].with_options(write_concern=WriteConcern("majority", j=True))
    collection.insert_one({})
    times = []
    for _ in range(count):
        began = time.monotonic()
        collection.insert_one({"text": "x" * 500})
        times.append(time.monotonic() - began)
        time.sleep(0.01)
    collection.drop()
    return [round(1e3 * each, 3) for each in quantiles(times, n=22, method="inclusive")]
