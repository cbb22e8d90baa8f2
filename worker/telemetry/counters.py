"""What intake counts, for Prometheus and for the log: of this process, since its start.

The whole system's counters are in `worker.metrics`: what a worker's pool counts here, no one scrapes.
"""

from collections import Counter as Tally

from prometheus_client import Counter

from worker.log import get_logger

log = get_logger(__name__)

ACCEPTED = Counter("snapshots_intake_accepted", "Intake entries whose request is in the ledger", ["type"])
REJECTED = Counter("snapshots_intake_rejected", "Intake entries that stand in the stream of rejected ones", ["code"])
LEFT_OUT = Counter("snapshots_intake_left_out", "Closings that make no snapshot", ["reason"])
LOST = Counter("snapshots_intake_lost", "Pending intake entries that were trimmed before they were read")
ALL = (ACCEPTED, REJECTED, LEFT_OUT, LOST)


class IntakeCounts:
    """One listener's counts: on to Prometheus at once, into the log when asked and changed."""

    def __init__(self) -> None:
        self._changed: Tally[str] = Tally()

    def accepted(self, kind: str, count: int) -> None:
        if count:
            ACCEPTED.labels(kind).inc(count)
            self._changed["accepted"] += count

    def rejected(self, code: str) -> None:
        REJECTED.labels(code).inc()
        self._changed[f"rejected_{code}"] += 1

    def left_out(self, reason: str) -> None:
        LEFT_OUT.labels(reason).inc()
        self._changed[f"left_out_{reason}"] += 1

    def lost(self, count: int) -> None:
        LOST.inc(count)
        self._changed["lost"] += count

    def write_log(self) -> None:
        """One record of what has been counted since the last; none if that is nothing."""
        if self._changed:
            log.info("intake_counted", **self._changed)
            self._changed.clear()
