"""The simulation of the pipeline: known results of queueing theory, limits, and the fit of costs that are known."""

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

import pytest

from benchmarks.capacity.arrivals import Load
from benchmarks.capacity.costs import Costs, Installation
from benchmarks.capacity.engine import Cores, Process, Queues, Simulation
from benchmarks.capacity.fit import costs_of
from benchmarks.capacity.measure import Phase
from benchmarks.capacity.model import predict
from benchmarks.capacity.search import search

COSTS = Costs(
    listener={"second": 0, "batch": 500, "entry": 50, "message": 200},
    worker={"second": 0, "message": 2000, "run": 2000, "request": 100},
    mongod={"second": 0, "batch": 300, "entry": 30, "run": 1000, "request": 250, "counted": 1},
    redis={"second": 0, "batch": 20, "message": 20, "request": 10},
    load={"call": 50},
    sweep={"sweep": 5000, "entry": 1},
    write_ms=[2.0, 3.0, 4.0],
    before_event=0.7,
    spread=0.0,
    delay_ms=1.0,
)


def ends_of(cores: float, pieces: Sequence[tuple[float, float]]) -> list[float]:
    """Return when pieces of work end, each given by its beginning and its CPU seconds."""
    simulation = Simulation()
    shared = Cores(simulation, cores)
    ends = [math.inf] * len(pieces)

    def piece(number: int, begin: float, seconds: float) -> Process:
        yield simulation.sleep(begin)
        yield shared.work(seconds)
        ends[number] = simulation.now

    for number, (begin, seconds) in enumerate(pieces):
        simulation.start(piece(number, begin, seconds))
    simulation.run(1e9)
    return ends


def test_work_shares_the_cores() -> None:
    assert ends_of(2, [(0, 1), (0, 1)]) == pytest.approx([1, 1])
    assert ends_of(1, [(0, 1), (0, 1)]) == pytest.approx([2, 2])
    assert ends_of(1, [(0, 1), (0.5, 1)]) == pytest.approx([1.5, 2])
    assert ends_of(2, [(0, 1), (0, 2), (0, 3)]) == pytest.approx([1.5, 2.5, 3.5])


def test_one_shared_core_waits_as_theory_says() -> None:
    """With Poisson arrivals the mean time in the system is s / (1 - rho), whatever the distribution of the work."""
    dice = random.Random(2)  # not the seed of the arrivals
    times = Load(rate=70, seconds=300).times()
    pieces = [(at, dice.uniform(0.005, 0.015)) for at in times]
    waits = [end - at for end, at in zip(ends_of(1, pieces), times, strict=True)]
    assert fmean(waits) == pytest.approx(0.01 / (1 - 0.7), rel=0.1)


def test_consumers_wait_in_line() -> None:
    simulation, queues = Simulation(), Queues(["a", "b"])
    found: list[tuple[str, str, int]] = []

    def consumer(name: str) -> Process:
        queue, item = yield queues.get(["b", "a"])
        found.append((name, queue, item))

    queues.put("a", 1)
    queues.put("b", 2)
    for name in ("first", "second", "third"):
        simulation.start(consumer(name))
    queues.put("a", 3)
    assert found == [("first", "b", 2), ("second", "a", 1), ("third", "a", 3)]


def test_request_that_is_alone_takes_the_sum_of_its_steps() -> None:
    steady = replace(COSTS, write_ms=[3.0, 3.0])
    prediction = predict(steady, Installation(), Load(rate=2, seconds=60, burst=1).times())
    fixed = 0.7 * (500 + 20 + 2000 + 2000 + 1000)
    rest = 50 + 300 + 30 + 200 + 20 + 100 + 10 + 250
    assert 1e6 * prediction.p50 == pytest.approx(fixed + rest + 2 * 4000)


def test_load_beyond_the_cores_has_no_p99() -> None:
    assert predict(COSTS, Installation(workers=1), Load(rate=20_000, seconds=8).times()).p99 == math.inf


def test_more_workers_and_cores_wait_less_and_are_less_busy() -> None:
    times = Load(rate=1500, seconds=10).times()
    few, many = (predict(COSTS, Installation(workers=n, mongod_cores=n), times) for n in (1, 4))
    assert few.p99 > many.p99
    assert few.occupied["worker"] > many.occupied["worker"]
    shared = predict(COSTS, Installation(shared_cores=1), times)
    assert shared.utilization["all"] > few.utilization["mongod"]


def test_search_finds_what_is_enough() -> None:
    needed = search(COSTS, Installation(), rate=1000, p99=0.5)
    assert needed
    assert needed.prediction.p99 <= 0.5
    assert search(COSTS, Installation(), rate=10, p99=0.001) is None


def test_fit_finds_the_costs_of_phases_that_are_their_sum() -> None:
    counts = (
        {"batch": 0, "entry": 0, "message": 0, "run": 0, "request": 0},
        {"batch": 400, "entry": 400, "message": 400, "run": 400, "request": 400},
        {"batch": 60, "entry": 600, "message": 600, "run": 150, "request": 600},
        {"batch": 24, "entry": 1200, "message": 96, "run": 96, "request": 1200},
        {"batch": 10, "entry": 10_000, "message": 50, "run": 0, "request": 0},
        {"batch": 0, "entry": 0, "message": 0, "run": 50, "request": 10_000},
        {"batch": 80, "entry": 80, "message": 80, "run": 20, "request": 80},
    )
    phases = [
        Phase(
            name=f"{number}",
            load={},
            seconds=10,
            core_speed=0.5,
            foreign=0,
            cpu={
                part: sum(
                    cost * {**each, "counted": 1000 * number, "call": each["batch"]}.get(name, 0)
                    for name, cost in getattr(COSTS, part).items()
                )
                / 0.5e6
                for part in ("listener", "worker", "mongod", "redis", "load")
            },
            counts=each | {"task": each["message"], "call": each["batch"]},
            sweeps=[0.01] * number,
            ledger=1000,
            waits={},
        )
        for number, each in enumerate(counts)
    ]
    found = costs_of(phases)
    for part in ("listener", "worker", "mongod"):
        assert found[part] == pytest.approx(getattr(COSTS, part), rel=0.02, abs=1)
