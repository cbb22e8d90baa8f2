"""Measures the memory of the processes after many requests through the stream."""

from typing import Any

from benchmarks.actors import Actor
from benchmarks.meters import tree
from benchmarks.pipeline import pipeline
from benchmarks.session import Session


def memory(session: Session) -> dict[str, Any]:
    """Return `requests` and, for each process, `rss_mb` and `uss_mb` (unshared) before and after."""
    count = session.options.amounts.memory
    with (
        pipeline(session) as ours,
        Actor(session, "benchmarks.producer", "stream", ours.order(count, "many")) as producer,
    ):
        before = _sizes(ours.processes)
        producer.cue()
        producer.report()
        ours.wait_for_events(count)
        ours.check(count)
        return {"requests": count, "before": before, "after": _sizes(ours.processes)}


def _sizes(processes: dict[str, int]) -> dict[str, dict[str, float]]:
    """Return process ids by name; a Celery worker's pool process is `<worker> pool`."""
    sizes = {}
    for name, pid in processes.items():
        for place, process in enumerate(tree(pid)):
            memory_info = process.memory_full_info()
            shown = name if place == 0 else f"{name} pool"
            sizes[shown] = {"rss_mb": round(memory_info.rss / 2**20, 1), "uss_mb": round(memory_info.uss / 2**20, 1)}
    return sizes
