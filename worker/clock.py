"""The time by MongoDB's clock, so that processes whose own clocks are wrong still agree.

`hello.localTime` is read now and then; in between the monotonic clock counts, which no one sets.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from worker.errors import TransientError

REFRESH_SECONDS = 60.0
_LAST = datetime.max.replace(tzinfo=UTC).timestamp() - 1


class Clock:
    """Answers `now()` by the clock of the MongoDB primary, to about a round trip's half."""

    def __init__(self, read_server_time: Callable[[], datetime]) -> None:
        """`read_server_time` asks the server, and may raise a TransientError."""
        self._read = read_server_time
        self._known: tuple[datetime, float] | None = None
        """The server's time and the monotonic clock's at that moment, changed as one: threads share this."""

    def now(self) -> datetime:
        """Aware, UTC, whole milliseconds (what BSON keeps). Raises StoreUnavailable if it has never been read."""
        known = self._known
        if known is None or time.monotonic() - known[1] > REFRESH_SECONDS:
            known = self._refresh(known)
        base, read_at = known
        moment = base + timedelta(seconds=time.monotonic() - read_at)
        return moment.replace(microsecond=moment.microsecond // 1000 * 1000)

    def _refresh(self, known: tuple[datetime, float] | None) -> tuple[datetime, float]:
        before = time.monotonic()
        try:
            base = self._read()
        except TransientError:
            if known is None:
                raise
            return known  # the monotonic clock carries on; its drift is far below the sweep's margins
        self._known = read = base, (before + time.monotonic()) / 2
        return read


def as_utc(moment: datetime) -> datetime:
    """Aware in UTC, from what the driver gives (naive is UTC there)."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def to_json(moment: datetime) -> str:
    """`2026-05-18T14:30:00.000Z`."""
    return as_utc(moment).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def milliseconds(moment: datetime) -> int:
    """Since 1970, as JavaScript and BSON count."""
    return round(as_utc(moment).timestamp() * 1000)


def from_milliseconds(since: float) -> datetime:
    """Aware in UTC; what lies behind the year 9999 is its end."""
    return datetime.fromtimestamp(min(since / 1000, _LAST), UTC)
