"""Counts rejected intake entries by folding their stream into totals.

The totals are stored with the position up to which the stream was read, by compare-and-set. The stream's own counter
(XINFO STREAM) does not know error codes, and the counters of a listener end with its process.
"""

import time
from collections import Counter
from typing import Any

from pydantic_core import from_json

from worker.clock import milliseconds
from worker.intake.entries import TASK_PREFIX
from worker.stores.checkpoints import Checkpoints
from worker.stores.connections import Connections, broker_errors
from worker.stores.stream_ids import MAX_AHEAD_MS

_NAME = "measures:rejected"
_READ_SIZE, _MAX_READS, _SECONDS = 10, 200, 4.0
"""Entries per read, and reads and seconds per call; the next call continues. An entry may be over 1 MB."""
_MAX_KINDS = 100
"""Maximum number of error codes with a count of their own. Anyone who can write to the stream may invent
codes, and Prometheus stores every label value."""

RejectionCounts = dict[tuple[str, str], int]
"""The number of rejected entries by entry point (`stream` or `task`) and error code."""


class RejectionFold:
    """Counts all entries ever rejected, including those that have been trimmed since."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._state = Checkpoints(connections)

    def __call__(self) -> RejectionCounts:
        """Count the new entries of the rejected stream. Raises BrokerUnavailable, StoreUnavailable, StoreConflict."""
        known = self._state.get(_NAME)
        counts: Counter[tuple[str, str]] = Counter({(way, code): n for way, code, n in known.get("rows", ())})
        # An entry may have an id of the far future. Workers move its stream aside (worker.stores.stream_ids); to read
        # on behind such an id would be to read nothing for good.
        end = milliseconds(self._connections.clock.now()) + MAX_AHEAD_MS
        after = known.get("after")
        if after and int(after.partition("-")[0]) > end:
            after = None
        stop_at = time.monotonic() + _SECONDS
        for _ in range(_MAX_READS):
            entries = self._read(after, end)
            for _, fields in entries:
                way, code = _kind(fields)
                counts[way, code if (way, code) in counts or len(counts) < _MAX_KINDS else "other"] += 1
            if entries:
                after = entries[-1][0].decode()
            if len(entries) < _READ_SIZE or time.monotonic() >= stop_at:
                break
        if after != known.get("after"):
            rows = [[*kind, count] for kind, count in counts.items()]
            self._state.set(_NAME, {"after": after, "rows": rows}, expected={"after": known.get("after")})
        return dict(counts)

    def _read(self, after: str | None, end: int) -> list[Any]:
        """Return the next entries behind the id `after`, up to the time `end` in ms since 1970."""
        stream, start = self._connections.settings.rejected_stream, f"({after}" if after else "-"
        with broker_errors():
            entries: Any = self._connections.redis.xrange(stream, min=start, max=str(end), count=_READ_SIZE)
        return list(entries)


def _kind(fields: dict[bytes, bytes]) -> tuple[str, str]:
    """Return the entry point and error code of an entry, which any program may have added."""
    way = "task" if fields.get(b"origin", b"").startswith(TASK_PREFIX.encode()) else "stream"
    try:
        code = from_json(fields[b"reason"])["code"]  # refuses what is nested too deeply
    except (KeyError, ValueError, TypeError):
        code = None
    return way, code if isinstance(code, str) and code.isidentifier() and len(code) <= 40 else "unknown"
