"""The targets and whether they were met."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from benchmarks.comparing import quickest_peer
from benchmarks.latency import OURS

_MEGABYTES = 150
_MEMORY_FACTOR = 8
_STEADY = 1.1
"""Times per message vary by this factor from run to run."""
_NOISE = 1_000_000
"""Bytes. For smaller documents, the growth of a process says nothing about the document."""


@dataclass(frozen=True)
class Target:
    """`met` is None if the value to compare with was not measured."""

    what: str
    wanted: str
    measured: str
    met: bool | None


def targets(results: Mapping[str, Any]) -> list[Target]:
    """Returns the targets of all measurements."""
    return [*_rates(results), *_latencies(results), *_busy(results), *_sizes(results), *_memory(results)]


def _rates(results: Mapping[str, Any]) -> Iterator[Target]:
    rows = {row["name"]: row for row in results["rates"]}
    wanted = (
        ("stream", "x_peer", 5.0),
        ("stream", "x_bulk", 0.55),
        ("backfill", "x_bulk", 0.65),
        (OURS, "x_peer", 1.0),
    )
    base = {"x_peer": f"the fastest peer ({results['fastest_peer']})", "x_bulk": "PyMongo in bulk"}
    for name, key, least in wanted:
        if name in rows and (row := rows[name])[key] is not None:
            yield Target(f"{name}, rate", f"≥ {least:g} x {base[key]}", f"{row[key]:.2f} x", row[key] >= least)


def _latencies(results: Mapping[str, Any]) -> Iterator[Target]:
    slow = [row for row in results["latency"] if row["per_second"] == 20]
    own = next((row for row in slow if row["name"] == OURS), None)
    if own is None:
        return
    if peer := quickest_peer(slow):
        wanted = f"≤ {peer['p50_ms']:g} ms ({peer['name']})"
        yield Target("latency at 20/s, p50", wanted, f"{own['p50_ms']:g} ms", own["p50_ms"] <= peer["p50_ms"])
    factor = own["p99_ms"] / own["p50_ms"]
    yield Target("latency at 20/s, p99", "≤ 2 x its p50", f"{own['p99_ms']:g} ms, {factor:.2f} x", factor <= 2)


def _busy(results: Mapping[str, Any]) -> Iterator[Target]:
    if found := results["busy"]:
        what = f"interactive p99 while a backfill of {found['backfill']:,} runs"
        yield Target(what, "< 1000 ms", f"{found['p99_ms']:g} ms", found["p99_ms"] < 1000)


def _sizes(results: Mapping[str, Any]) -> Iterator[Target]:
    found = results["sizes"]
    if not found:
        return
    times = [each["us_per_message"] for each in found]
    falls = all(later <= _STEADY * earlier for earlier, later in pairwise(times))
    shown = " → ".join(f"{each:g}" for each in times)
    yield Target("time per message, longer conversations", "falls or stays equal", f"{shown} µs", falls)
    factors = [each["peak_bytes"] / each["bytes"] for each in found if each["peak_bytes"] and each["bytes"] > _NOISE]
    if factors:
        what, measured = "peak memory of the worker, large snapshot", f"{max(factors):.1f} x"
        yield Target(what, f"< {_MEMORY_FACTOR} x the document", measured, max(factors) < _MEMORY_FACTOR)


def _memory(results: Mapping[str, Any]) -> Iterator[Target]:
    if found := results["memory"]:
        name, largest = max(
            ((name, size["rss_mb"]) for name, size in found["after"].items() if name.startswith("worker")),
            key=lambda pair: float(pair[1]),
        )
        what = f"worker process after {found['requests']:,} requests"
        yield Target(what, f"< {_MEGABYTES} MB", f"{largest:g} MB ({name})", largest < _MEGABYTES)
