"""Counters of refused intake entries: a fold of their stream, by compare-and-set on how far it was read.

Its own counter of entries (XINFO STREAM) knows no codes, and the listener's counters end with the listener.
"""

import json
from collections import Counter
from typing import Any

from worker.intake.entries import TASK_PREFIX
from worker.stores.checkpoints import State
from worker.stores.connections import Connections, broker_errors

_NAME = "measures:rejected"
_BATCH, _MOST = 100, 20
"""Entries of a read, and reads of one call: the next goes on."""

Rejections = dict[tuple[str, str], int]
"""How many were refused, by the way that they came (`stream`, `task`) and the code."""


class RejectionFold:
    """Counts what was refused, also what was trimmed since."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._state = State(connections)

    def __call__(self) -> Rejections:
        """Raises BrokerUnavailable, StoreUnavailable, StoreConflict."""
        known = self._state.get(_NAME)
        counts: Counter[tuple[str, str]] = Counter({(way, code): n for way, code, n in known.get("rows", ())})
        after = known.get("after")
        for _ in range(_MOST):
            entries = self._read(after)
            for _, fields in entries:
                counts[_kind(fields)] += 1
            if entries:
                after = entries[-1][0].decode()
            if len(entries) < _BATCH:
                break
        if after != known.get("after"):
            rows = [[*kind, count] for kind, count in counts.items()]
            self._state.set(_NAME, {"after": after, "rows": rows}, expected={"after": known.get("after")})
        return dict(counts)

    def _read(self, after: str | None) -> list[Any]:
        stream = self._connections.settings.rejected_stream
        with broker_errors():
            found: Any = self._connections.redis.xrange(stream, min=f"({after}" if after else "-", count=_BATCH)
        return list(found)


def _kind(fields: dict[bytes, bytes]) -> tuple[str, str]:
    """Of an entry that anyone may have added."""
    way = "task" if fields.get(b"origin", b"").startswith(TASK_PREFIX.encode()) else "stream"
    try:
        code = json.loads(fields[b"reason"])["code"]
    except (KeyError, ValueError, TypeError):
        code = None
    return way, code if isinstance(code, str) and code.isidentifier() and len(code) <= 40 else "unknown"
