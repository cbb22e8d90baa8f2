"""Requests at a fixed rate, and quantiles of their latencies."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.dataset import Document


def evenly(jobs: Sequence[Document], rate: float, send: Callable[[Document], Any]) -> list[tuple[str, float, float]]:
    """Send `rate` requests a second; return request id, time before and time after each call.

    A call that takes longer than its share delays those behind it, whose time counts from their own call.
    """
    calls = []
    due = time.time()
    for job in jobs:
        before = time.time()
        send(job)
        calls.append((str(job["requestId"]), before, time.time()))
        due += 1 / rate
        time.sleep(max(0.0, due - time.time()))
    return calls


def quantile(values: Sequence[float], share: float) -> float:
    """Return a quantile of at least one value; of fewer than 100, the 99 % quantile is the largest."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def summary(waits: Sequence[float]) -> dict[str, float]:
    """Return `p50_ms` and `p99_ms` of values in seconds."""
    return {f"p{round(100 * share)}_ms": round(1e3 * quantile(waits, share), 2) for share in (0.5, 0.99)}
