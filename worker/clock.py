"""Time by MongoDB's clock, so that all processes agree on it even if their own clocks are wrong.

`hello.localTime` is read once a minute. In between, time is counted by the monotonic clock, which nobody can set.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from worker.errors import TransientError

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
"""The time from which BSON, JavaScript and Redis count."""
REFRESH_SECONDS = 60.0
_LAST = datetime.max.replace(tzinfo=UTC).timestamp() - 1


class Clock:
    """Tells the time of the MongoDB primary, accurate to about half a round trip."""

    def __init__(self, read_server_time: Callable[[], datetime]) -> None:
        """`read_server_time` asks the server and may raise TransientError."""
        self._read = read_server_time
        self._known: tuple[datetime, float] | None = None
        """The server's time and the monotonic clock's reading at that moment, replaced together: threads share them."""

    def now(self) -> datetime:
        """Return the time: aware, UTC, in whole milliseconds (BSON's precision).

        Raises StoreUnavailable if the server's time has never been read.
        """
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
            return known  # the monotonic clock's drift is far below the sweep's margins
        self._known = read = base, (before + time.monotonic()) / 2
        return read


def as_utc(moment: datetime) -> datetime:
    """Return an aware date in UTC. The driver's naive dates are UTC."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def to_json(moment: datetime) -> str:
    """Format a date as `2026-05-18T14:30:00.000Z`."""
    return as_utc(moment).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def milliseconds(moment: datetime) -> int:
    """Return milliseconds since 1970, as in JavaScript and BSON."""
    return round(as_utc(moment).timestamp() * 1000)


def from_milliseconds(since: float) -> datetime:
    """Return an aware date in UTC.

    `since`: milliseconds since 1970. Those after the year 9999 give the last second of that year.
    """
    return datetime.fromtimestamp(min(since / 1000, _LAST), UTC)
