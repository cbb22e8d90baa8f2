"""Formats numbers, times and durations for the pages."""

import re
from datetime import datetime

from worker.clock import as_utc
from worker.domain.ledger_entry import LedgerEntry, is_open, is_stripped, waiting_since

NONE = "\N{EN DASH}"
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


def number(value: int) -> str:
    """Format a number with commas between thousands."""
    return f"{value:,}"


def timestamp(moment: datetime | None) -> str:
    """Format a time to the second, in UTC."""
    return f"{as_utc(moment):%Y-%m-%d %H:%M:%S}" if moment else ""


def duration(seconds: float | None) -> str:
    """Format a duration in the largest unit of which it has at least one."""
    if seconds is None:
        return NONE
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    for size, unit in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min")):
        if seconds >= size:
            whole, rest = divmod(seconds, size)
            return f"{seconds / size:.1f} {unit}" if whole < 10 and rest else f"{whole:.0f} {unit}"
    return f"{seconds:.1f} s"


def size(value: int) -> str:
    """Format bytes in the largest unit of which there is at least one."""
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if value >= unit:
            return f"{value / unit:.1f} {name}"
    return f"{value} B"


def words(name: str) -> str:
    """Return the words of a field's name: `minMessages` becomes `Min messages`."""
    return re.sub("([A-Z])", r" \1", name).capitalize()


def plural(count: int, noun: str) -> str:
    """Format a count with its noun: `1 request`, `2 requests`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def seconds_between(start: datetime | None, end: datetime | None) -> float | None:
    """Return the seconds from start to end, at least 0; None if either is missing."""
    return max((end - start).total_seconds(), 0.0) if start and end else None


def attempts(entry: LedgerEntry) -> str:
    """Return the number of ended attempts in this round, or a dash if retention has removed it."""
    if is_stripped(entry):
        return NONE
    return str(int(entry.get("attempts") or 0) + (not is_open(entry)))


def seconds_taken(entry: LedgerEntry) -> float | None:
    """Return the seconds from when a request was last due to its outcome; None if retention has removed the start."""
    begin = None if is_stripped(entry) else waiting_since(entry)
    return seconds_between(begin, entry.get("finishedAt"))
