"""Runs a sweep, reads the event stream, and sets the scene for a replay."""

from bson import ObjectId

from support.ledger import Bench
from worker.runs.run import Run
from worker.sweep.sweep import Sweep, SweepReport


def sweep(bench: Bench) -> SweepReport:
    return Sweep(bench.service)()


def event_ids(bench: Bench) -> list[str]:
    return [each["id"] for each in bench.events()]


def completed(bench: Bench, count: int) -> list[ObjectId]:
    """Run requests to their events, and sweep once, so that Redis is known to hold the events."""
    keys = bench.chunk(count)
    Run(bench.service)(keys)
    sweep(bench)
    return keys


def completed_on_different_days(bench: Bench, count: int) -> list[ObjectId]:
    """As `completed`; the last key is the newest, finished now, and each one before it a day earlier."""
    keys = bench.chunk(count)
    Run(bench.service)(keys)
    for days, key in enumerate(reversed(keys)):
        bench.change([key], finishedAt=bench.ago(days=days))
    sweep(bench)
    return keys


def events_of(keys: list[ObjectId]) -> set[str]:
    """Return the ids of the events of requests in their first round."""
    return {f"{key}.0" for key in keys}
