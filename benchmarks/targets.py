"""The targets and whether they were met."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from benchmarks.comparing import quickest_peer
from benchmarks.latency import OURS, POST
from benchmarks.options import DURABLE
from benchmarks.runs import NAIVE

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
    """Return the targets of all measurements."""
    return [*_rates(results), *_latencies(results), *_busy(results), *_sizes(results), *_memory(results)]


def _rates(results: Mapping[str, Any]) -> Iterator[Target]:
    rows = {row["name"]: row for row in results["rates"]}
    wanted = (
        ("stream", "x_bulk", 0.62),
        ("stream", "x_peer", 6.7),
        ("stream", "x_durable", 14.0),
        ("backfill", "x_bulk", 0.62),
        (OURS, "x_peer", 1.0),
    )
    base = {
        "x_bulk": "PyMongo in bulk",
        "x_peer": f"the fastest peer ({results['fastest_peer']})",
        "x_durable": f"the durable peer ({DURABLE})",
    }
    for name, key, least in wanted:
        if name in rows and (row := rows[name])[key] is not None:
            yield Target(f"{name}, rate", f"≥ {least:g} x {base[key]}", f"{row[key]:.2f} x", row[key] >= least)
    own, other = (rows.get(name, {}).get("producer_rate") for name in (OURS, NAIVE))
    if own and other:
        share = own / other
        yield Target(
            "one producer, requests accepted a second",
            "≥ 0.6 x apply_async of plain Celery",
            f"{own:,.0f}, {share:.2f} x",
            share >= 0.6,
        )


def _latencies(results: Mapping[str, Any]) -> Iterator[Target]:
    slow = [row for row in results["latency"] if row["per_second"] == 20]
    rows = {row["name"]: row for row in slow}
    if (own := rows.get(OURS)) is None:
        return
    p50 = own["p50_ms"]
    for peer, factor in ((quickest_peer(slow), 1.35), (rows.get(DURABLE), 1.0)):
        if peer:
            wanted = f"≤ {factor:g} x {peer['p50_ms']:g} ms ({peer['name']})"
            measured = f"{p50:g} ms, {p50 / peer['p50_ms']:.2f} x"
            yield Target("latency at 20/s, p50", wanted, measured, p50 <= factor * peer["p50_ms"])
    spread = own["p99_ms"] / p50
    yield Target("latency at 20/s, p99", "≤ 1.5 x its p50", f"{own['p99_ms']:g} ms, {spread:.2f} x", spread <= 1.5)
    if post := rows.get(POST):
        wanted = "≤ the pipeline's p50 + 3 ms"
        more = post["p50_ms"] - p50
        yield Target("POST at 20/s, p50", wanted, f"{post['p50_ms']:g} ms, {more:+.1f} ms", more <= 3)


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
