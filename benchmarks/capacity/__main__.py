"""`python -m benchmarks.capacity`: how many workers, and which servers, a load needs. docs/scaling.md explains it.

Commands: `measure` fits the costs of the parts to measurements, `check` predicts further loads and measures them,
`predict` says what a load needs, and `parts` what each part sustains.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from benchmarks.capacity.arrivals import Load
from benchmarks.capacity.costs import FITTED, Costs, Installation
from benchmarks.capacity.fit import SINGLE, explained, fit, here
from benchmarks.capacity.measure import Measuring, Phase, write_times
from benchmarks.capacity.model import predict as simulate
from benchmarks.capacity.search import search, sustained
from benchmarks.options import read
from benchmarks.pipeline import pipeline
from benchmarks.session import Session, session

_CONTACTS = 5000
_FITTED_LOADS = {
    SINGLE: Load(60, 15, burst=1),
    "bursts of 10": Load(120, 12, burst=10),
    "bursts of 50": Load(300, 12, burst=50),
}


@click.group()
def main() -> None:
    """Say how many workers, and which servers, a load needs."""


_fitted = click.option(
    "--costs", type=click.Path(path_type=Path), default=FITTED, help="File of the fitted costs.", show_default=False
)


@contextmanager
def _servers() -> Iterator[Session]:
    with session(read(["--contacts", str(_CONTACTS)])) as current:
        yield current


@main.command()
@_fitted
def measure(costs: Path) -> None:
    """Measure single requests, bursts and a full stream, fit the costs to them, and save these."""
    with _servers() as current, pipeline(current) as running:
        measuring = Measuring(current, running)
        writes = write_times(current)
        phases = [measuring.idle("idle", 10)]
        phases += [measuring.load(name, load) for name, load in _FITTED_LOADS.items()]
        phases.append(measuring.load("accept", Load(10_000, 1, burst=10_000), held="worker"))
        phases.append(measuring.rest("run"))
        phases.append(measuring.idle("idle, with a ledger", 10))
    for phase in phases:
        _say(phase)
    found = fit(phases, writes)
    found.save(costs)
    for name, parts in explained(found).items():
        click.echo(json.dumps({name: parts}))


@main.command()
@_fitted
@click.option("--rate", "rates", type=float, multiple=True, default=(200.0, 800.0, 1600.0), show_default=True)
@click.option("--seconds", type=float, default=40.0, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
def check(costs: Path, rates: tuple[float, ...], seconds: float, seed: int) -> None:
    """Predict the waits of these loads on this machine, measure them, and compare."""
    fitted = Costs.read(costs)
    with _servers() as current:
        for rate in rates:
            load = Load(rate, seconds, seed=seed)
            with pipeline(current) as running:
                phase = Measuring(current, running).load(f"{rate:g}/s", load)
            predicted = simulate(fitted, here(phase.core_speed), load.times())
            found = {"p50_ms": round(1e3 * predicted.p50, 1), "p99_ms": round(1e3 * predicted.p99, 1)}
            ratios = {name: round(found[name] / phase.waits[name], 2) for name in found}
            click.echo(json.dumps({"rate": rate, "measured": phase.waits, "predicted": found, "ratio": ratios}))
            _say(phase)


@main.command()
@_fitted
@click.option("--rate", "rates", type=float, multiple=True, required=True, help="Snapshots a second; may be repeated.")
@click.option("--p99", type=float, required=True, help="Seconds from the entry to its event.")
@click.option(
    "--write-ms", type=float, default=0.0, help="Extra milliseconds of a majority write, compared with the measurement."
)
@click.option("--core-speed", type=float, default=1.0, help="Core speed of the machines; see benchmarks/machine.py.")
def predict(costs: Path, rates: tuple[float, ...], p99: float, write_ms: float, core_speed: float) -> None:
    """Print the fewest workers, listeners and cores of MongoDB that serve a load."""
    base, fitted = Installation(write_ms=write_ms, core_speed=core_speed), Costs.read(costs)
    for rate in rates:
        needed = search(fitted, base, rate, p99)
        if needed is None:
            click.echo(f"Nothing serves {rate:g} a second with that p99: a single request takes longer.", err=True)
            sys.exit(1)
        click.echo(json.dumps({"rate": rate, **needed.as_fields()}))


@main.command()
@_fitted
def parts(costs: Path) -> None:
    """Print what one core of each part sustains: single requests, and full batches and chunks."""
    click.echo(json.dumps(sustained(Costs.read(costs))))


def _say(phase: Phase) -> None:
    shown: dict[str, Any] = phase.as_fields()
    click.echo(json.dumps({name: shown[name] for name in shown if name != "load"}), err=True)


if __name__ == "__main__":
    main()
