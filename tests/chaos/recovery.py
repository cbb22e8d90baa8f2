"""Measures how long after a fault everything accepted before its end was finished and its event was with a consumer."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from chaos.context import Injected
from chaos.evidence import Evidence

_SHOWN = 5


@dataclass(frozen=True)
class Times:
    """Percentiles in seconds."""

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


@dataclass(frozen=True)
class Recovery:
    """How long a fault took to recover from, and the request that was finished last."""

    fault: Injected
    seconds: float
    last: str


def by_fault(evidence: Evidence, faults: Sequence[Injected]) -> list[Recovery]:
    """Measures from each fault's end until nothing that was accepted before it is open."""
    spans = sorted(_spans(evidence))
    recoveries = []
    for fault in faults:
        end = fault.struck or fault.ended
        open_until, last = max(
            ((until, name) for since, until, name in spans if since <= end < until), default=(end, "")
        )
        recoveries.append(Recovery(fault, open_until - end, last))
    return recoveries


def recovery(recoveries: Sequence[Recovery]) -> Times:
    """The percentiles over all faults."""
    return Times.of([(each.seconds, each.fault.kind) for each in recoveries])


def slowest(recoveries: Sequence[Recovery], began: float) -> str:
    """The slowest recoveries, each with the fault's time in the run, which began at `began` (in seconds since 1970)."""
    ordered = sorted(recoveries, key=lambda each: each.seconds, reverse=True)
    return ", ".join(
        f"{each.seconds:.0f} s ({each.fault.kind} at {each.fault.began - began:.0f} s)" for each in ordered[:_SHOWN]
    )


def latency(evidence: Evidence) -> Times:
    """For each request: from its acceptance to its event."""
    return Times.of([(until - since, name) for since, until, name in _spans(evidence)])


def _spans(evidence: Evidence) -> list[tuple[float, float, str]]:
    """Returns acceptance and event of each finished request, in seconds since 1970, and the request id.

    Requests that failed with `contact_not_found` are left out: they wait for the contact on purpose.
    """
    spans = []
    accepted_at = {each.request_id: each.accepted_at for each in evidence.records.values() if each.channel == "closing"}
    for entry in evidence.ledger:
        if entry.get("error", {}).get("code") == "contact_not_found":
            continue
        seen = evidence.first_seen.get(f"{entry['_id']}.{entry['round']}")
        if entry.get("finishedAt") and entry.get("acceptedAt"):
            # A closing is accepted once MongoDB has confirmed it, so that its settle delay counts.
            since = min(_seconds(entry["acceptedAt"]), accepted_at.get(entry["requestId"]) or float("inf"))
            spans.append((since, max(seen or 0.0, _seconds(entry["finishedAt"])), entry["requestId"]))
    return spans


def _seconds(moment: Any) -> float:
    return float(moment.timestamp())
