"""The charts of the last hour: positions in an SVG, which `templates/chart.html` draws in the style sheet's colours."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from worker.operations.data.throughput import Minute
from worker.operations.web.formats import duration, number, plural

_WIDTH, _HEIGHT = 360, 150
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 6, 8, 20
_PLOT_WIDTH, _PLOT_HEIGHT = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
_BASE = _HEIGHT - _BOTTOM
_DECADES = (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0, 10_000.0, 100_000.0)


@dataclass(frozen=True, slots=True)
class Bar:
    """A part of a column; `kind` is its class in the style sheet, as for lines and dots."""

    kind: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Line:
    """`points`: at least two, as an SVG polyline has them."""

    kind: str
    points: str


@dataclass(frozen=True, slots=True)
class Dot:
    """A point without neighbours, which cannot be drawn as a line."""

    kind: str
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Column:
    """The column of a minute. Its tooltip appears anywhere in the column, even if the bars are small."""

    x: float
    width: float
    hint: str
    bars: Sequence[Bar] = ()


@dataclass(frozen=True, slots=True)
class Label:
    """A label of the vertical axis (`y`) or the horizontal one (`x`)."""

    text: str
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart. `description`: what it shows, in words, for screen readers."""

    name: str
    title: str
    description: str
    times: Sequence[Label]
    levels: Sequence[Label] = ()
    columns: Sequence[Column] = ()
    lines: Sequence[Line] = ()
    dots: Sequence[Dot] = ()
    width: int = _WIDTH
    height: int = _HEIGHT
    left: int = _LEFT
    right: int = _WIDTH - _RIGHT
    top: int = _TOP
    bottom: int = _BASE

    @property
    def is_empty(self) -> bool:
        return not self.levels


def throughput_chart(minutes: Sequence[Minute]) -> Chart:
    """Draw a bar for each minute: completed, with failed on top."""
    completed, failed = sum(minute.completed for minute in minutes), sum(minute.failed for minute in minutes)
    highest = max((minute.completed + minute.failed for minute in minutes), default=0)
    description = (
        f"{plural(completed, 'request')} completed and {number(failed)} failed in the last hour; "
        f"at most {number(highest)} in a minute."
    )
    name, title, times = "throughput", "Outcomes per minute", _time_labels(minutes)
    if not highest:
        return Chart(name, title, description, times)
    top = _round_up(highest)
    columns = [_bar_column(position, minute, len(minutes), top) for position, minute in enumerate(minutes)]
    marks = (0, top // 2, top) if top % 2 == 0 else (0, top)
    levels = [_level(_short(mark), _BASE - _PLOT_HEIGHT * mark / top) for mark in marks]
    return Chart(name, title, description, times, levels, columns)


def latency_chart(minutes: Sequence[Minute]) -> Chart:
    """Draw the median and the 95th percentile of each minute on a logarithmic scale."""
    name, title, times = "latency", "Time from acceptance to outcome", _time_labels(minutes)
    medians = sorted(minute.median for minute in minutes if minute.median is not None)
    slowest = max((minute.p95 for minute in minutes if minute.p95 is not None), default=None)
    if not medians or slowest is None:
        return Chart(name, title, "No request was completed in the last hour.", times)
    lowest = max((decade for decade in _DECADES[:-1] if decade <= max(medians[0], 0.01)), default=0.01)
    highest = min((decade for decade in _DECADES if decade >= slowest and decade > lowest), default=_DECADES[-1])
    description = (
        f"The median is {duration(medians[len(medians) // 2])}; "
        f"the 95th percentile of the slowest minute is {duration(slowest)}."
    )

    def y_of(seconds: float) -> float:
        share = math.log(max(seconds, lowest) / lowest) / math.log(highest / lowest)
        return _BASE - _PLOT_HEIGHT * min(share, 1.0)

    lines: list[Line] = []
    dots: list[Dot] = []
    for kind, values in (
        ("slow", [minute.p95 for minute in minutes]),
        ("median", [minute.median for minute in minutes]),
    ):
        for segment in _segments(values, y_of):
            if len(segment) == 1:
                dots.append(Dot(kind, *segment[0]))
            else:
                lines.append(Line(kind, " ".join(f"{x:.1f},{y:.1f}" for x, y in segment)))
    levels = [_level(_with_unit(decade), y_of(decade)) for decade in _DECADES if lowest <= decade <= highest]
    columns = [
        _hint_column(position, minute, len(minutes))
        for position, minute in enumerate(minutes)
        if minute.median is not None
    ]
    return Chart(name, title, description, times, levels, columns, lines, dots)


def _bar_column(position: int, minute: Minute, count: int, top: int) -> Column:
    step = _PLOT_WIDTH / count
    x, y = _LEFT + position * step, float(_BASE)
    bars = []
    for kind, value in (("completed", minute.completed), ("failed", minute.failed)):
        if value:
            height = max(_PLOT_HEIGHT * value / top, 1.0)
            y -= height
            bars.append(Bar(kind, x + 0.5, max(y, _TOP), step - 1, height))
    hint = f"{minute.start:%H:%M}: {number(minute.completed)} completed, {number(minute.failed)} failed"
    return Column(x, step, hint, bars)


def _hint_column(position: int, minute: Minute, count: int) -> Column:
    step = _PLOT_WIDTH / count
    hint = f"{minute.start:%H:%M}: median {duration(minute.median)}, 95th percentile {duration(minute.p95)}"
    return Column(_LEFT + position * step, step, hint)


def _segments(values: Sequence[float | None], y_of: Callable[[float], float]) -> list[list[tuple[float, float]]]:
    """Return the points of a line; a minute without a value interrupts it."""
    step = _PLOT_WIDTH / len(values)
    segments: list[list[tuple[float, float]]] = [[]]
    for position, value in enumerate(values):
        if value is not None:
            segments[-1].append((_LEFT + (position + 0.5) * step, y_of(value)))
        elif segments[-1]:
            segments.append([])
    return [segment for segment in segments if segment]


def _time_labels(minutes: Sequence[Minute]) -> list[Label]:
    """Label every quarter of an hour."""
    step = _PLOT_WIDTH / max(len(minutes), 1)
    return [
        Label(f"{minute.start:%H:%M}", min(max(_LEFT + (position + 0.5) * step, _LEFT + 12), _WIDTH - 16), _HEIGHT - 6)
        for position, minute in enumerate(minutes)
        if minute.start.minute % 15 == 0
    ]


def _level(text: str, y: float) -> Label:
    return Label(text, _LEFT - 5, y)


def _short(value: int) -> str:
    return f"{value / 1000:g}k" if value >= 1000 else str(value)


def _with_unit(seconds: float) -> str:
    return f"{seconds:g} s" if seconds >= 1 else f"{seconds * 1000:g} ms"


def _round_up(value: int) -> int:
    """Return the next of 2, 4, 6, 8, 10, 20, 40 and so on."""
    size = 1
    while True:
        for factor in (2, 4, 6, 8, 10):
            if factor * size >= value:
                return factor * size
        size *= 10
