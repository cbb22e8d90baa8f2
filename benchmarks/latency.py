"""Measures latency from just before a request is submitted to the arrival of its event at a blocked reader."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from benchmarks import peers
from benchmarks.actors import Actor
from benchmarks.machine import core_speed
from benchmarks.pacing import summary
from benchmarks.pipeline import Incomplete, order, pipeline
from benchmarks.posting import posted
from benchmarks.references import marked, naive_worker
from benchmarks.runs import NAIVE
from benchmarks.session import Session

OURS, POST, NO_QUEUE = "interactive", "POST", "pymongo_loop_1"
WARM_UP = 40
"""The first requests do not count."""
_SLOW, _FAST = 20.0, 200.0


@dataclass(frozen=True)
class Latency:
    """One contender in one round."""

    name: str
    round: int
    rate: float
    jobs: int
    p50_ms: float
    p99_ms: float
    core_speed: float

    def as_fields(self) -> dict[str, Any]:
        return asdict(self)


def measures(session: Session) -> list[tuple[str, Callable[[int], Latency]]]:
    """Return the measurements of one round in order, with their display names."""
    amounts = session.options.amounts
    made: list[tuple[str, Callable[[int], Latency]]] = [
        (f"{OURS} at {_SLOW:g}/s", partial(ours, session, _SLOW, amounts.slow_rate)),
        (f"{OURS} at {_FAST:g}/s", partial(ours, session, _FAST, amounts.fast_rate)),
        (f"{POST} at {_SLOW:g}/s", partial(_post, session, amounts.slow_rate)),
        (f"{NAIVE} at {_SLOW:g}/s", partial(_naive, session, amounts.slow_rate)),
        (f"{NO_QUEUE} at {_SLOW:g}/s", partial(_no_queue, session, amounts.slow_rate)),
    ]
    names = session.options.latency_contenders if session.options.peers else ()
    return made + [(f"{name} at {_SLOW:g}/s", partial(_peer, session, name)) for name in names]


def ours(session: Session, rate: float, count: int, number: int) -> Latency:
    """Measure accept to event on the interactive path."""
    with (
        pipeline(session) as running,
        Actor(session, "benchmarks.producer", "paced", running.order(WARM_UP + count, "paced", rate)) as producer,
    ):
        speed = core_speed(number)
        events = Arrivals(session)
        producer.cue()
        arrived = events.wait_for("paced", WARM_UP + count, (WARM_UP + count) / rate + 60)
        waits = waited(producer.report()["calls"], arrived)
        running.check(WARM_UP + count)
    return _latency(OURS, number, rate, waits[WARM_UP:], speed)


def _post(session: Session, count: int, number: int) -> Latency:
    speed = core_speed(number)
    return _latency(POST, number, _SLOW, posted(session, _SLOW, WARM_UP + count)[WARM_UP:], speed)


def _naive(session: Session, count: int, number: int) -> Latency:
    total = WARM_UP + count
    with (
        naive_worker(session) as (_, marks),
        Actor(session, "benchmarks.naive_celery", order(session, total, "paced", _SLOW)) as producer,
    ):
        speed = core_speed(number)
        producer.cue()
        calls = producer.report()["calls"]
        deadline = time.monotonic() + 60
        while len(done := marked(marks)) < total:
            if time.monotonic() > deadline:
                raise Incomplete(f"{len(done)} of {total} jobs done")
            time.sleep(0.1)
    return _latency(NAIVE, number, _SLOW, waited(calls, done)[WARM_UP:], speed)


def _no_queue(session: Session, count: int, number: int) -> Latency:
    session.clear()
    paced_order = order(session, WARM_UP + count, "paced", _SLOW, share=0, shares=1)
    with Actor(session, "benchmarks.reference_process", "paced", paced_order) as actor:
        speed = core_speed(number)
        actor.cue()
        waits = [after - before for _, before, after in actor.report()["calls"]]
    return _latency(NO_QUEUE, number, _SLOW, waits[WARM_UP:], speed)


def _peer(session: Session, name: str, number: int) -> Latency:
    count = session.options.amounts.slow_rate
    return Latency(name, number, _SLOW, count, **peers.latency(session, name, _SLOW, count))


def _latency(name: str, number: int, rate: float, waits: Sequence[float], speed: float) -> Latency:
    return Latency(name, number, rate, len(waits), **summary(waits), core_speed=round(speed, 2))


def waited(calls: Sequence[Sequence[Any]], arrived: Mapping[str, float]) -> list[float]:
    """Return the seconds from just before each call to the arrival of its event, in the order of the calls."""
    return [arrived[request_id] - before for request_id, before, _ in calls]


class Arrivals:
    """Reads the event stream from now on and notes when each event arrives."""

    def __init__(self, session: Session) -> None:
        self._redis: Any = session.redis
        self._stream = session.settings.events_stream
        last = self._redis.xrevrange(self._stream, count=1)
        self._after = last[0][0] if last else b"0"

    def wait_for(self, tag: str, count: int, seconds: float) -> dict[str, float]:
        """Wait for `count` events of the tag; return arrival times by request id. Raises Incomplete."""
        arrived: dict[str, float] = {}
        deadline = time.monotonic() + seconds
        while len(arrived) < count:
            if time.monotonic() > deadline:
                raise Incomplete(f"{len(arrived)} of {count} events arrived")
            for key, now in self._read():
                if key.startswith(f"{tag}-"):
                    arrived.setdefault(key, now)
        return arrived

    def _read(self) -> list[tuple[str, float]]:
        reply = self._redis.xread({self._stream: self._after}, block=500)
        now = time.time()
        entries = [entry for _, found in (reply.items() if isinstance(reply, dict) else reply or []) for entry in found]
        if entries and isinstance(entries[0], list):  # RESP3 nests one level deeper
            entries = entries[0]
        if entries:
            self._after = entries[-1][0]
        data = [json.loads(fields[b"event"])["data"] for _, fields in entries]
        return [(each["requestId"], now) for each in data if "requestId" in each]  # not that of a whole backfill
