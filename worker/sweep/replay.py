"""Replay: events that Redis lost are emitted again, with the same ids and content.

`worker.sweep.redis_state` says how a loss is recognized. If everything may be lost, or Redis came back with an older
state, all events within the retention are replayed. If only the process has changed, Redis was restarted and may have
lost the last second: the events since the former process's last sweep, and a margin before it, are replayed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from uuid import uuid4

from redis import Redis

from worker.domain.ledger_entry import NOT_STRIPPED, LedgerEntry, finished_in
from worker.jobs.store import Jobs
from worker.log import get_logger
from worker.service import Service
from worker.stores.checkpoints import REDIS_CHECKPOINT, Checkpoints
from worker.stores.connections import Document, broker_errors, store_errors
from worker.stores.events import EVENT_FIELDS
from worker.stores.key_types import MARKER_KEY
from worker.sweep.budget import Budget
from worker.sweep.redis_state import NewInstance, RedisState, read_state, write_pulse

log = get_logger(__name__)

_BATCH = 2000
_MARGIN = timedelta(seconds=10)
"""A margin for the last second of data, which a crash of Redis may lose, and for clocks that are slightly ahead."""
_SECONDS = 5.0
"""The time that a replay may take in one sweep. The next sweep continues it."""


@dataclass(frozen=True, slots=True)
class _Loss:
    """Redis may have lost events of requests that finished since `since`.

    `everything`: it may have lost all its data.
    """

    since: datetime
    everything: bool


class Replay:
    """Recognizes that Redis lost data, and emits the lost events again.

    The checkpoint `redis` holds the `marker` and `instance` that the known Redis has, `goodAt` (the time of the last
    complete sweep), and the pending replay (`owedFrom`, `owedUntil`). If a sweep has emitted events long after their
    requests finished, it also holds when that was (`lateAt`), and when the first of these requests finished
    (`lateFrom`).

    These names must not change: during an upgrade, another version continues the replay that this one began.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._checkpoints = Checkpoints(service.connections)
        self._jobs = Jobs(service)

    def __call__(self, budget: Budget | None = None) -> int:
        """Check whether Redis lost data, and continue a pending replay; return the number of emitted events.

        Raises TransientError.
        """
        share = budget.share(_SECONDS) if budget else Budget(_SECONDS)
        pool = self._service.connections.redis.connection_pool
        # All commands use one connection: if Redis restarts in between, the sweep ends here, and the new process gets
        # no pulse.
        with broker_errors(), Redis(connection_pool=pool, single_connection_client=True) as client:
            known = self._checkpoints.get(REDIS_CHECKPOINT)
            state = read_state(client, known.get("instance"))
            if loss := self._find_loss(known, state):
                known = self._begin(loss, known, client)
                if not known:
                    return 0  # another sweep has recorded the loss already
            self._service.events.instance = known["instance"]
            replayed = self._replay(known, share) if known.get("owedFrom") else 0
            now = self._service.clock.now()
            write_pulse(client, now)
        self._checkpoints.set(REDIS_CHECKPOINT, {"goodAt": now}, expected={"instance": known["instance"]})
        return replayed

    # --- has Redis lost data? -------------------------------------------------------------------------

    def _find_loss(self, known: Document, state: RedisState) -> _Loss | None:
        now = self._service.clock.now()
        swept_at = self._last_sweep(state.pulse, known.get("goodAt"))
        marker_is_known = state.marker is not None and state.marker == known.get("marker")
        if not marker_is_known or (swept_at is None and known.get("goodAt")):
            return _Loss(now - self._service.settings.events_retention, everything=True)
        if state.same_process:
            return None
        if swept_at is None:
            return _Loss(now - self._service.settings.events_retention, everything=False)
        since = min(swept_at, now) - _MARGIN  # a former primary's clock may have been ahead
        late_at, late_from = known.get("lateAt"), known.get("lateFrom")
        # A run emits an event moments after `finishedAt`. Events that a sweep emitted later are recorded as late.
        usual: datetime = since - self._service.settings.lost_after
        if late_at and late_from and late_at > since:
            usual = min(usual, late_from)
        return _Loss(usual, everything=False)

    def _last_sweep(self, pulse: datetime | None, good_at: datetime | None) -> datetime | None:
        """Return the time of the last complete sweep known to Redis, or None if it lost more than a restart explains.

        A crash may lose the last second, and with it the pulse of one sweep, or of two overlapping ones.
        """
        if good_at is None or pulse is None:
            return None
        if pulse < good_at - _MARGIN - 2 * self._service.settings.sweep_interval:
            return None
        return min(pulse, good_at)

    def _begin(self, loss: _Loss, known: Document, client: "Redis") -> Document:
        """Record the pending replay, then give Redis its new marker: a crash in between repeats the replay.

        A restart keeps the marker, because a new one would hide a flush just before the restart. Returns the new
        checkpoint, or an empty one if another sweep has recorded the loss already.
        """
        instance = NewInstance()
        pending: Document = {
            "marker": uuid4().hex if loss.everything else known["marker"],
            "instance": instance.digest,
            "owedFrom": min(loss.since, known.get("owedFrom") or loss.since),
            # The margin is for other processes' clocks, which may be slightly ahead.
            "owedUntil": self._newest_outcome() + _MARGIN,
        }
        if loss.everything:
            # The pulse is gone as well. Until a sweep completes, that must not look like yet another loss.
            pending["goodAt"] = None
        expected = {"marker": known.get("marker"), "instance": known.get("instance")}
        self._jobs.mark_events_unsent(pending["owedFrom"])
        if not self._checkpoints.set(REDIS_CHECKPOINT, pending, expected=expected):
            return {}
        if known:
            log.warning("redis_lost_data", since=loss.since.isoformat(), everything=loss.everything)
        instance.load(client)
        if loss.everything:
            client.set(MARKER_KEY, pending["marker"])
        return pending

    def _newest_outcome(self) -> datetime:
        """Return the current time, or the time of the newest outcome if a former primary's clock was ahead."""
        now = self._service.clock.now()
        later = finished_in({"$gt": now})
        with store_errors():
            newest = self._service.ledger.collection.find_one(later, {"finishedAt": 1}, sort=[("finishedAt", -1)])
        return max(now, newest["finishedAt"]) if newest else now

    # --- emit again -----------------------------------------------------------------------------------

    def _replay(self, pending: Document, share: Budget) -> int:
        """Emit the events of the pending replay until `share` is used up, and record how far it has come."""
        replayed = 0
        reached: datetime = pending["owedFrom"]
        for batch in self._batches(reached, pending["owedUntil"]):
            self._service.events.emit(batch)
            replayed += len(batch)
            is_last = len(batch) < _BATCH
            if not self._advance({**pending, "owedFrom": reached}, batch, is_last=is_last) or is_last:
                return replayed
            reached = batch[-1]["finishedAt"]
            # Otherwise, entries that finished in the same millisecond would be repeated forever.
            if share.is_over and reached > pending["owedFrom"]:
                return replayed
        self._advance({**pending, "owedFrom": reached}, [], is_last=True)
        return replayed

    def _batches(self, since: datetime, until: datetime) -> Iterator[list[LedgerEntry]]:
        # Unsent entries too: an event that was emitted before the loss may be marked as sent after it.
        condition = {**finished_in({"$gte": since, "$lte": until}), **NOT_STRIPPED}
        ledger = self._service.ledger.at_majority
        with store_errors(), ledger.find(condition, EVENT_FIELDS, batch_size=_BATCH).sort("finishedAt", 1) as cursor:
            while batch := list(islice(cursor, _BATCH)):
                yield batch

    def _advance(self, pending: Document, batch: list[LedgerEntry], *, is_last: bool) -> bool:
        """Record progress in one operation; return False if another sweep has changed the pending replay.

        The batch is recorded as late, because Redis may lose these events again if it crashes now.
        """
        unchanged = {"$and": [{"$eq": [f"${name}", pending[name]]} for name in ("marker", "instance", "owedFrom")]}
        progress = {"owedFrom": None, "owedUntil": None} if is_last else {"owedFrom": batch[-1]["finishedAt"]}
        changes: Document = {name: {"$cond": [unchanged, value, f"${name}"]} for name, value in progress.items()}
        if batch:
            changes |= self._late(batch[0]["finishedAt"], self._service.clock.now())
        now = self._checkpoints.update(REDIS_CHECKPOINT, [{"$set": changes}])
        return bool(now["owedFrom"] == progress["owedFrom"])

    def note_late(self, oldest: datetime, at: datetime) -> None:
        """Record that a sweep emitted events at `at`, of requests the first of which finished at `oldest`."""
        self._checkpoints.update(REDIS_CHECKPOINT, [{"$set": self._late(oldest, at)}])

    def _late(self, oldest: datetime, at: datetime) -> Document:
        """Return one operation that records late events, so that concurrent sweeps do not undo each other's records.

        Earlier late events stay recorded until a complete sweep has certainly followed them.
        """
        recent = {"$gt": ["$lateAt", at - _MARGIN - 2 * self._service.settings.sweep_interval]}
        return {"lateAt": at, "lateFrom": {"$cond": [recent, {"$min": ["$lateFrom", oldest]}, oldest]}}
