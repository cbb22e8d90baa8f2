"""Measures interactive requests at 20 a second while a backfill runs."""

from typing import Any

from benchmarks.actors import Actor
from benchmarks.dataset import seed
from benchmarks.latency import Arrivals, waited
from benchmarks.pacing import summary
from benchmarks.pipeline import pipeline
from benchmarks.session import Session

_RATE = 20.0
_EXPECTED = 1500
"""Requests a second of a backfill: decides how long the interactive ones continue. Later ones do not count."""


def busy(session: Session) -> dict[str, Any]:
    """Return `backfill` (requests), its `rate`, and of `interactive` requests `p50_ms`, `p99_ms`, `slowest_ms`."""
    amounts = session.options.amounts
    more = amounts.busy - amounts.contacts
    if more > 0:
        seed(session.database, more, session.options.messages, first=amounts.contacts)
    total = max(amounts.busy, amounts.contacts)
    count = round(_RATE * (2 + total / _EXPECTED))
    with (
        pipeline(session) as ours,
        Actor(session, "benchmarks.producer", "backfill", ours.order(0, "all")) as backfill,
        Actor(session, "benchmarks.producer", "paced", ours.order(count, "paced", _RATE)) as producer,
    ):
        events = Arrivals(session)
        backfill.cue()
        producer.cue()
        arrived = events.wait_for("paced", count, count / _RATE + 120)
        calls = producer.report()["calls"]
        report = backfill.report()
        ours.check(total + count)
    during = [call for call in calls if report["began"] <= call[1] <= report["ended"]]
    waits = waited(during, arrived)
    return {
        "backfill": total,
        "rate": round(total / (report["ended"] - report["began"]), 1),
        "interactive": len(waits),
        **summary(waits),
        "slowest_ms": round(1e3 * max(waits), 1),
    }
