"""Plots rates on a logarithmic axis with the spread of the rounds, and latencies next to them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

from benchmarks.options import PATHS

_OURS, _OTHERS = "#1f6f8b", "#b8b8b8"


def draw(results: Mapping[str, Any], path: Path) -> None:
    """Write a PNG, if there is anything to show."""
    rates, latency = results["rates"], [row for row in results["latency"] if row["per_second"] == 20]
    panels = [each for each in ((_rates, rates), (_latency, latency)) if each[1]]
    if not panels:
        return
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    height = 1.2 + 0.32 * max(len(rows) for _, rows in panels)
    figure, axes = plt.subplots(1, len(panels), figsize=(6 * len(panels), height), squeeze=False)
    for axis, (panel, rows) in zip(axes[0], panels, strict=True):
        panel(axis, rows)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(axis="y", length=0)
    figure.tight_layout()
    figure.savefig(path, dpi=140)
    plt.close(figure)


def _rates(axis: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    ordered = sorted(rows, key=lambda row: float(row["rate"]))
    values = [row["rate"] for row in ordered]
    errors = [
        [row["rate"] - row["lowest"] for row in ordered],
        [row["highest"] - row["rate"] for row in ordered],
    ]
    names = [row["name"] for row in ordered]
    axis.barh(names, values, xerr=errors, color=[_OURS if name in PATHS else _OTHERS for name in names], capsize=3)
    axis.set_xscale("log")
    axis.set_xlabel("snapshots a second: median, lowest and highest round")


def _latency(axis: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    ordered = sorted(rows, key=lambda row: -float(row["p50_ms"]))
    for place, row in enumerate(ordered):
        color = _OURS if row["name"] in PATHS else _OTHERS
        axis.plot([row["p50_ms"], row["p99_ms"]], [place, place], color=color, linewidth=3)
        axis.plot([row["p50_ms"]], [place], "o", color=color)
        axis.plot([row["p99_ms"]], [place], "|", color=color, markersize=12, markeredgewidth=2)
    axis.set_yticks(range(len(ordered)), [row["name"] for row in ordered])
    axis.set_xlim(left=0)
    axis.set_xlabel("ms at 20 a second: p50 (dot) to p99 (bar)")
