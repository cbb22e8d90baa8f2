"""Counts requests and their outcomes by folding the ledger into totals.

Requests are processed by prefork processes that are killed, recycled and scaled. Counters in their memory would be lost
with them, and storing counters would cost a round trip per request or, if unacknowledged, accuracy. The ledger already
has all the information, so nothing is counted on the path of a request. A scrape lets MongoDB group the entries that
have finished since the last one. Those that no late commit can change any more are added to totals in the state
collection, by compare-and-set on the time up to which the totals reach. A million old entries cost a scrape nothing,
retention may strip them, and no entry is counted twice, whichever processes scrape or die.

A failure that is redriven before it is added (within `lost_after`) counts only with its last round.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass
from datetime import UTC, datetime
from functools import partial

import pymongo
from pymongo.collection import Collection

from worker.metrics.outcome_groups import (
    InFlight,
    Kind,
    Sums,
    add_groups,
    finished_between,
    finished_pipeline,
    in_flight_by_trigger,
    in_flight_pipeline,
)
from worker.stores.checkpoints import Checkpoints
from worker.stores.connections import Connections, Document, store_errors
from worker.stores.outbox import Outbox

_CHECKPOINT = "measures"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SLICE_SIZE = 50_000
"""Maximum number of entries that one aggregation adds. Adding this many takes a third of a second."""
_EXTRA_SECONDS = 10
"""Additional time for an aggregation that is running when the time of a call is over."""
_MAX_DECISIONS = 1000
"""Maximum number of decisions of the outbox to consider. There are more only while Redis refuses events."""


@dataclass(slots=True)
class Outcomes:
    """All requests of the ledger at one moment, by trigger and outcome."""

    at: datetime
    finished: dict[Kind, Sums]
    in_flight: dict[str, InFlight]


class OutcomeFold:
    """Reads outcomes, and adds those that cannot change any more to the totals."""

    def __init__(self, connections: Connections, slice_size: int = _SLICE_SIZE) -> None:
        self._connections = connections
        self._slice_size = slice_size
        self._checkpoints = Checkpoints(connections)

    @property
    def _ledger(self) -> Collection[Document]:
        return self._connections.database[self._connections.settings.requests_collection]

    def __call__(self, seconds: float) -> Outcomes | None:
        """Return the current outcomes, or None if after `seconds` older ones are still being added. Then call it again.

        Raises StoreUnavailable, StoreConflict.
        """
        stop_at = time.monotonic() + seconds
        with pymongo.timeout(seconds + _EXTRA_SECONDS):
            while True:
                now = self._connections.clock.now()
                settled = now - self._connections.settings.lost_after
                stored = self._checkpoints.get(_CHECKPOINT)
                reached: datetime = stored.get("reached") or _EPOCH
                end = self._slice_end(reached, settled)
                if end >= settled:  # it is later where another process has a shorter run deadline
                    return self._current(stored, reached, settled, now)
                if time.monotonic() > stop_at:
                    return None
                groups = self._aggregate(partial(finished_pipeline, reached, end, end, now))
                self._store(stored, _totals(stored), groups, end)

    def _slice_end(self, reached: datetime, settled: datetime) -> datetime:
        """Return the end of the next slice, by halving the period until it has few enough entries."""
        end = max(reached, settled)
        while end - reached > self._connections.settings.lost_after:
            condition = finished_between(reached, end)
            with store_errors():
                if self._ledger.count_documents(condition, limit=self._slice_size + 1) <= self._slice_size:
                    break
            middle = reached + (end - reached) / 2
            end = middle.replace(microsecond=middle.microsecond // 1000 * 1000)
        return end

    def _current(self, stored: Document, reached: datetime, settled: datetime, now: datetime) -> Outcomes:
        """Read with one aggregation the requests that have finished since the totals, and those in flight."""
        end = max(reached, settled)
        ledger = self._connections.settings.requests_collection
        union = {"$unionWith": {"coll": ledger, "pipeline": in_flight_pipeline()}}
        groups = self._aggregate(lambda noted: [*finished_pipeline(reached, None, end, now, noted), union])
        totals = _totals(stored)
        if end > reached:
            self._store(stored, dict(totals), groups, end)
        finished = [group for group in groups if group["_id"].get("status")]
        add_groups(totals, finished)
        return Outcomes(now, totals, in_flight_by_trigger(group for group in groups if not group["_id"].get("status")))

    def _aggregate(self, pipeline: Callable[[Sequence[datetime]], list[Document]]) -> list[Document]:
        """Aggregate majority-committed entries of one moment, each either finished or in flight.

        `pipeline`: made from the times of the decisions in the outbox at the same moment.
        """
        with store_errors(), self._connections.mongo.start_session(snapshot=True) as session:
            noted = Outbox(self._connections).times(_MAX_DECISIONS, session)
            return list(self._ledger.aggregate(pipeline(noted), session=session))

    def _store(self, stored: Document, totals: dict[Kind, Sums], groups: Iterable[Document], reached: datetime) -> None:
        """Store the totals with the settled groups. Another process may have stored the same already."""
        sums = {kind: Sums(*astuple(total)) for kind, total in totals.items()}
        add_groups(sums, (group for group in groups if group["_id"].get("settled")))
        rows = [[*kind, *astuple(total)] for kind, total in sums.items()]
        expected = {"reached": stored.get("reached")}
        self._checkpoints.set(_CHECKPOINT, {"reached": reached, "rows": rows}, expected=expected)


def _totals(stored: Document) -> dict[Kind, Sums]:
    size = len(Kind._fields)
    return {Kind(*row[:size]): Sums(*row[size:]) for row in stored.get("rows", ())}
