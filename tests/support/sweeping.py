"""Runs a sweep and reads the event stream."""

from support.ledger import Bench
from worker.sweep.sweep import Sweep, SweepReport


def sweep(bench: Bench) -> SweepReport:
    return Sweep(bench.service)()


def event_ids(bench: Bench) -> list[str]:
    return [each["id"] for each in bench.events()]
