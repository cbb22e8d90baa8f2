"""A sweep, and what is in the event stream after it."""

from support.ledger import Bench
from worker.sweep.sweep import Sweep, Swept


def sweep(bench: Bench) -> Swept:
    return Sweep(bench.service)()


def event_ids(bench: Bench) -> list[str]:
    return [each["id"] for each in bench.events()]
