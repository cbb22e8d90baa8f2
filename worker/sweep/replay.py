"""Events that Redis lost are emitted again, with the same ids.

MongoDB remembers Redis's `run_id`, a random marker that is also a key in Redis, and the time of the last good sweep,
which Redis has too (the pulse). A marker that is gone or different means that all may be lost: every event younger
than the retention goes out again. So does a pulse that lies back: Redis came back with an older state, from a backup,
a replica that lagged, or an append-only file that was cut where it was damaged. A run id that alone is different means
a restart, which may have lost the last second: what went out since the last sweep that saw the old one, and a margin,
goes out again.
"""

import re
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice
from typing import cast
from uuid import uuid4

from redis import Redis

from worker.clock import from_milliseconds, milliseconds
from worker.domain.requests import COMPLETED, FAILED
from worker.log import get_logger
from worker.service import Service
from worker.stores.checkpoints import State
from worker.stores.connections import Document, broker_errors, store_errors

log = get_logger(__name__)

MARKER_KEY = "snapshots:marker"
PULSE_KEY = "snapshots:pulse"
"""The last good sweep, in ms by MongoDB's clock, written behind all events that went out before it."""
_PULSE = re.compile(rb"\d{1,13}")
"""What is longer lies behind the year 2286, and was written by someone else."""
_NAME = "redis"
_BATCH = 500
_MARGIN = timedelta(seconds=10)
_SECONDS = 5.0
"""Time that one sweep spends on it; the next goes on where it stopped."""


class Resending:
    """The part of the sweep that looks after Redis's memory."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._state = State(service.connections)
        self._redis = service.connections.redis

    def __call__(self) -> int:
        """Notices a loss, and emits again what is owed; how many events went out. Raises TransientError."""
        # One connection from the look to the pulse: a Redis that is another by then gets no pulse, but ends the sweep.
        with (
            broker_errors(),
            Redis(connection_pool=self._redis.connection_pool, single_connection_client=True) as redis,
        ):
            known = self._state.get(_NAME)
            run_id = str(redis.info("server")["run_id"])
            marker, pulse = cast("list[bytes | None]", redis.mget(MARKER_KEY, PULSE_KEY))
            now = self._service.clock.now()
            all_lost = not known.get("marker") or known["marker"] != (marker.decode() if marker else None)
            swept_at = self._swept_at(pulse, known.get("goodAt"))
            all_lost = all_lost or (swept_at is None and "goodAt" in known)
            owed_since = self._lost_since(known, run_id, now, None if all_lost else swept_at)
            if owed_since is not None:
                since = min(owed_since, known.get("owedFrom") or owed_since)
                known = self._owe(known, run_id, since, now, all_lost=all_lost)
                if not known:
                    return 0  # another sweep was first
            sent = self._pay(known) if known.get("owedFrom") else 0
            redis.set(PULSE_KEY, milliseconds(now))
        self._state.set(_NAME, {"goodAt": now}, expected={"runId": run_id})
        return sent

    def _swept_at(self, pulse: bytes | None, good_at: datetime | None) -> datetime | None:
        """The last good sweep that Redis still knows of; None where it has forgotten more than a restart may.

        A crash may take its last second, and with it the pulse of one sweep, of two that overlapped at most.
        """
        if good_at is None or pulse is None or not _PULSE.fullmatch(pulse):
            return None
        known_there = from_milliseconds(int(pulse))
        lies_back = known_there < good_at - _MARGIN - 2 * self._service.settings.sweep_interval
        return None if lies_back else min(known_there, good_at)

    def _lost_since(self, known: Document, run_id: str, now: datetime, swept_at: datetime | None) -> datetime | None:
        """From when on events may be lost, None if none are. `swept_at` None: all may be."""
        if swept_at is None:
            return now - self._service.settings.events_retention
        if known.get("runId") == run_id:
            return None
        since = min(swept_at, now) - _MARGIN  # a primary of before may have had a clock that was ahead
        late_at, late_from = known.get("lateAt"), known.get("lateFrom")
        # A run emits within moments of `finishedAt`; what a sweep emitted later was noted.
        normal = since - self._service.settings.lost_after
        return min(normal, late_from) if late_at and late_from and late_at > since else normal

    def _owe(self, known: Document, run_id: str, since: datetime, now: datetime, *, all_lost: bool) -> Document:
        """Remembers the debt before Redis gets its new marker, so that a crash in between repeats it.

        A restart alone keeps the marker: a new one would hide a flush that came just before it.
        """
        marker = uuid4().hex if all_lost else known["marker"]
        # The margin is for clocks of other processes, which may be a little ahead.
        debt = {"marker": marker, "runId": run_id, "owedFrom": since, "owedUntil": self._newest(now) + _MARGIN}
        expected = {"marker": known.get("marker"), "runId": known.get("runId")}
        if not self._state.set(_NAME, debt, expected=expected):
            return {}
        if known:
            log.warning("redis_lost_data", since=since.isoformat())
        if all_lost:
            with broker_errors():
                self._redis.set(MARKER_KEY, marker)
        return debt

    def _newest(self, now: datetime) -> datetime:
        """Now, or when the newest outcome was, by the clock of a primary of before."""
        ahead = {"status": {"$in": [COMPLETED, FAILED]}, "unsent": {"$in": [None, True]}, "finishedAt": {"$gt": now}}
        with store_errors():
            found = self._service.ledger.collection.find_one(ahead, {"finishedAt": 1}, sort=[("finishedAt", -1)])
        return max(now, found["finishedAt"]) if found else now

    def _pay(self, debt: Document) -> int:
        """Emits again from `owedFrom` to `owedUntil`, as far as the time goes; remembers how far."""
        sent = 0
        stop_at = time.monotonic() + _SECONDS
        mine = {"marker": debt["marker"], "runId": debt["runId"]}
        since: datetime = debt["owedFrom"]
        window = {"$gte": since, "$lte": debt["owedUntil"]}
        # The unsent too: one whose event went out before the loss may be marked as sent after it.
        condition = {"status": {"$in": [COMPLETED, FAILED]}, "unsent": {"$in": [None, True]}, "finishedAt": window}
        for batch in self._batches({**condition, "acceptedAt": {"$exists": True}}):
            self._service.events.emit(batch)
            sent += len(batch)
            # A Redis that crashes now may lose these again, and only so does anyone know how old they are.
            self.note_late(batch[0]["finishedAt"], self._service.clock.now())
            since = batch[-1]["finishedAt"]
            self._state.set(_NAME, {"owedFrom": since}, expected=mine)
            if time.monotonic() > stop_at and since > debt["owedFrom"]:
                return sent
        self._state.set(_NAME, {"owedFrom": None, "owedUntil": None}, expected=mine)
        return sent

    def _batches(self, condition: Document) -> Iterator[list[Document]]:
        with store_errors(), self._service.ledger.at_majority.find(condition).sort("finishedAt", 1) as cursor:
            while batch := list(islice(cursor, _BATCH)):
                yield batch

    def note_late(self, oldest: datetime, at: datetime) -> None:
        """The sweep emitted events at `at`, of which the oldest was finished long before."""
        known = self._state.get(_NAME)
        late_at, late_from = known.get("lateAt"), known.get("lateFrom")
        if late_at and late_from and late_at > at - _MARGIN - 2 * self._service.settings.sweep_interval:
            oldest = min(oldest, late_from)
        self._state.set(_NAME, {"lateAt": at, "lateFrom": oldest})
