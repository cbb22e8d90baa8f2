"""How long it took until what was accepted before a fault's end was finished, and its event with a consumer."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from chaos.context import Done
from chaos.evidence import Evidence


@dataclass(frozen=True)
class Times:
    """Seconds."""

    p50: float
    p99: float
    longest: float
    slowest: str = ""

    @classmethod
    def of(cls, values: Sequence[tuple[float, str]]) -> "Times":
        if not values:
            return cls(0.0, 0.0, 0.0)
        ordered = sorted(values)
        numbers = [value for value, _ in ordered]
        last = ordered[-1]
        return cls(statistics.median(numbers), numbers[min(len(numbers) - 1, int(0.99 * len(numbers)))], *last)


def recovery(evidence: Evidence, faults: Sequence[Done]) -> Times:
    """Of each fault: from its end to the moment when nothing that was accepted before it is open any more."""
    spans = sorted(_spans(evidence))
    values = []
    for fault in faults:
        end = fault.struck or fault.ended
        done = [until for since, until, _ in spans if since <= end < until]
        values.append((max(done, default=end) - end, fault.kind))
    return Times.of(values)


def latency(evidence: Evidence) -> Times:
    """Of each request: from its acceptance to its event."""
    return Times.of([(until - since, name) for since, until, name in _spans(evidence)])


def _spans(evidence: Evidence) -> list[tuple[float, float, str]]:
    """Acceptance and event of each finished request, in seconds since 1970, and the request id.

    Those that failed for want of their contact are left out: they wait for it by intent.
    """
    spans = []
    told = {each.request_id: each.accepted_at for each in evidence.records.values() if each.way == "closing"}
    for entry in evidence.ledger:
        if entry.get("error", {}).get("code") == "contact_not_found":
            continue
        seen = evidence.first_seen.get(f"{entry['_id']}.{entry['round']}")
        if entry.get("finishedAt") and entry.get("acceptedAt"):
            # A closing is accepted once MongoDB has confirmed it; that it waits for its settle delay counts, too.
            since = min(_seconds(entry["acceptedAt"]), told.get(entry["requestId"]) or float("inf"))
            spans.append((since, max(seen or 0.0, _seconds(entry["finishedAt"])), entry["requestId"]))
    return spans


def _seconds(moment: Any) -> float:
    return float(moment.timestamp())
