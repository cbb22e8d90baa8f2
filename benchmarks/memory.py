"""How large the processes are after many requests, all through the stream."""

from typing import Any

from benchmarks.actors import Actor
from benchmarks.meters import tree
from benchmarks.pipeline import pipeline
from benchmarks.session import Session


def memory(session: Session) -> dict[str, Any]:
    """`requests`, and by process `rss_mb` and `uss_mb` (its own alone), before and after."""
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
    """A Celery worker's pool process is `<worker> pool`."""
    sizes = {}
    for name, pid in processes.items():
        for place, process in enumerate(tree(pid)):
            told = process.memory_full_info()
            shown = name if place == 0 else f"{name} pool"
            sizes[shown] = {"rss_mb": round(told.rss / 2**20, 1), "uss_mb": round(told.uss / 2**20, 1)}
    return sizes
