"""Counters of one listener process since its start, for Prometheus and for the log.

Counters of the whole system are in `worker.metrics`, read from the database: nobody scrapes a worker's pool processes.
"""

from collections import Counter as Tally

from prometheus_client import Counter

from worker.log import get_logger

log = get_logger(__name__)

ACCEPTED = Counter("snapshots_intake_accepted", "Intake entries whose request is in the ledger", ["type"])
REJECTED = Counter("snapshots_intake_rejected", "Intake entries moved to the stream of rejected entries", ["code"])
SKIPPED = Counter("snapshots_intake_left_out", "Closings for which no snapshot is made", ["reason"])
LOST = Counter("snapshots_intake_lost", "Pending intake entries that were trimmed before they were read")
ALL = (ACCEPTED, REJECTED, SKIPPED, LOST)


class IntakeCounts:
    """Counts into Prometheus immediately, and into the log when `write_log` is called. For one thread."""

    def __init__(self) -> None:
        self._since_log: Tally[str] = Tally()

    def accepted(self, kind: str, count: int) -> None:
        """Count accepted entries by their kind."""
        if count:
            ACCEPTED.labels(kind).inc(count)
            self._since_log["accepted"] += count

    def rejected(self, code: str) -> None:
        """Count a rejected entry by its error code."""
        REJECTED.labels(code).inc()
        self._since_log[f"rejected_{code}"] += 1

    def skipped(self, reason: str) -> None:
        """Count a skipped closing by its reason."""
        SKIPPED.labels(reason).inc()
        self._since_log[f"skipped_{reason}"] += 1

    def lost(self, count: int) -> None:
        """Count entries that were trimmed from the stream before they were read."""
        LOST.inc(count)
        self._since_log["lost"] += count

    def write_log(self) -> None:
        """Log what was counted since the last call, if anything was."""
        if self._since_log:
            log.info("intake_counted", **self._since_log)
            self._since_log.clear()
