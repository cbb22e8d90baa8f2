"""The last hour as a picture: SVG made here, whose colours are the style sheet's."""

import math
from collections.abc import Iterable, Iterator, Sequence
from html import escape

from worker.operations.data.throughput import Minute
from worker.operations.web.rendering import count, duration, plural

_WIDTH, _HEIGHT = 360, 150
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 6, 8, 20
_SPAN, _RISE = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
_NONE = f'<text class="none" x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_TOP + _RISE / 2}">none in the last hour</text>'
_DECADES = (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0, 10_000.0, 100_000.0)


def throughput(minutes: Sequence[Minute]) -> str:
    """Bars of a minute each: completed, and failed on top of them."""
    completed, failed = sum(each.completed for each in minutes), sum(each.failed for each in minutes)
    most = max((each.completed + each.failed for each in minutes), default=0)
    top = _nice(most)
    said = (
        f"{plural(completed, 'request')} completed and {count(failed)} failed in the last hour; "
        f"at most {count(most)} in a minute."
    )
    bars = _bars(minutes, top) if most else (_NONE,)
    return _framed("throughput", "Outcomes by the minute", said, minutes, bars, _levels(top) if most else ())


def latency(minutes: Sequence[Minute]) -> str:
    """Median and 95th percentile of each minute; the scale is logarithmic."""
    known = [each for each in minutes if each.median is not None and each.slow is not None]
    if not known:
        return _framed("latency", "From acceptance to outcome", "No request was completed.", minutes, (_NONE,), ())
    medians, slow = sorted(each.median or 0 for each in known), max(each.slow or 0 for each in known)
    lowest = max((each for each in _DECADES if each <= max(medians[0], 0.01)), default=0.01)
    highest = min((each for each in _DECADES if each >= slow and each > lowest), default=_DECADES[-1])
    said = (
        f"Median {duration(medians[len(medians) // 2])} over the minutes; "
        f"the slowest minute's 95th percentile is {duration(slow)}."
    )

    def height(seconds: float) -> float:
        part = math.log(max(seconds, lowest) / lowest) / math.log(highest / lowest)
        return _HEIGHT - _BOTTOM - _RISE * min(part, 1.0)

    levels = [(height(each), _unit(each)) for each in _DECADES if lowest <= each <= highest]
    slow_line = _line(minutes, [None if each.slow is None else height(each.slow) for each in minutes], "slow")
    median_line = _line(minutes, [None if each.median is None else height(each.median) for each in minutes], "median")
    return _framed(
        "latency", "From acceptance to outcome", said, minutes, [*slow_line, *median_line, *_hints(minutes)], levels
    )


def _framed(
    name: str,
    title: str,
    said: str,
    minutes: Sequence[Minute],
    content: Iterable[str],
    levels: Iterable[tuple[float, str]],
) -> str:
    grid = "".join(
        f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text class="level" x="{_LEFT - 5}" y="{y + 3:.1f}">{escape(text)}</text>'
        for y, text in levels
    )
    return (
        f'<svg class="plot" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-labelledby="{name}-title {name}-desc">'
        f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-desc">{escape(said)}</desc>'
        f"{grid}{''.join(content)}{''.join(_hours(minutes))}</svg>"
    )


def _bars(minutes: Sequence[Minute], top: int) -> Iterator[str]:
    step = _SPAN / max(len(minutes), 1)
    for place, each in enumerate(minutes):
        x, y = _LEFT + place * step + 0.5, float(_HEIGHT - _BOTTOM)
        parts = []
        for kind, number in (("completed", each.completed), ("failed", each.failed)):
            rise = _RISE * number / top
            if number:
                rise = max(rise, 1.0)
                y -= rise
                place_ = f'x="{x:.2f}" y="{max(y, _TOP):.2f}"'
                parts.append(f'<rect class="{kind}" {place_} width="{step - 1:.2f}" height="{rise:.2f}"/>')
        hint = f"{each.start:%H:%M}: {count(each.completed)} completed, {count(each.failed)} failed"
        yield f"<g>{''.join(parts)}{_target(x, step)}<title>{hint}</title></g>"


def _hints(minutes: Sequence[Minute]) -> Iterator[str]:
    step = _SPAN / max(len(minutes), 1)
    for place, each in enumerate(minutes):
        if each.median is not None:
            hint = f"{each.start:%H:%M}: median {duration(each.median)}, 95th percentile {duration(each.slow)}"
            yield f"<g>{_target(_LEFT + place * step, step)}<title>{hint}</title></g>"


def _target(x: float, width: float) -> str:
    """What the pointer meets, also where there is next to nothing to see."""
    return f'<rect class="target" x="{x:.2f}" y="{_TOP}" width="{width:.2f}" height="{_RISE}"/>'


def _line(minutes: Sequence[Minute], heights: Sequence[float | None], kind: str) -> Iterator[str]:
    """Pieces of a line: a minute without outcomes parts them, a piece of one minute is a dot."""
    step = _SPAN / max(len(minutes), 1)
    piece: list[tuple[float, float]] = []
    for place, y in enumerate([*heights, None]):
        if y is not None:
            piece.append((_LEFT + (place + 0.5) * step, y))
        elif piece:
            if len(piece) == 1:
                yield f'<circle class="{kind}" cx="{piece[0][0]:.1f}" cy="{piece[0][1]:.1f}" r="1.6"/>'
            else:
                points = " ".join(f"{x:.1f},{y:.1f}" for x, y in piece)
                yield f'<polyline class="{kind}" points="{points}"/>'
            piece = []


def _hours(minutes: Sequence[Minute]) -> Iterator[str]:
    """Times below: each quarter of an hour."""
    step = _SPAN / max(len(minutes), 1)
    for place, each in enumerate(minutes):
        if each.start.minute % 15 == 0:
            x = min(max(_LEFT + (place + 0.5) * step, _LEFT + 12), _WIDTH - 16)
            yield f'<text class="time" x="{x:.1f}" y="{_HEIGHT - 6}">{each.start:%H:%M}</text>'


def _levels(top: int) -> list[tuple[float, str]]:
    steps = [0, top // 2, top] if top % 2 == 0 else [0, top]
    return [(_HEIGHT - _BOTTOM - _RISE * each / top, _short(each)) for each in steps]


def _short(number: int) -> str:
    return f"{number / 1000:g}k" if number >= 1000 else str(number)


def _unit(seconds: float) -> str:
    return f"{seconds:g} s" if seconds >= 1 else f"{seconds * 1000:g} ms"


def _nice(most: int) -> int:
    """The next of 2, 4, 6, 8, 10, 20, 40..."""
    size = 1
    while True:
        for factor in (2, 4, 6, 8, 10):
            if factor * size >= most:
                return factor * size
        size *= 10
