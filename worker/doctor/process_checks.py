"""Checks workers, beat and the ledger."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pymongo
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from worker.celery import app
from worker.doctor.findings import Finding, failure, ok, warning
from worker.errors import BrokerUnavailable, StoreConflict
from worker.stores import heartbeat
from worker.stores.checkpoints import Checkpoints
from worker.stores.connections import Connections, broker_errors
from worker.stores.counts import totals
from worker.stores.stats import oldest_request
from worker.stores.wakeups import INTERACTIVE, MAINTENANCE, QUEUES
from worker.sweep.schedule_lock import SWEEP, checkpoint_of

_ANSWER_SECONDS = 1.5
_LATE = timedelta(minutes=10)
_IDENTITY_SECONDS = 30
_RECENT = timedelta(days=1)
_START = (
    f"Start `snapshots celery worker -P prefork -c 1`. If a worker that consumes the queue {INTERACTIVE} is running, "
    "see the worker's log."
)


def check_workers(connections: Connections) -> Iterator[Finding]:
    """Check that workers are alive and consume every queue. Raises BrokerUnavailable."""
    with broker_errors():
        alive = heartbeat.is_alive(connections.redis)
    if not alive:
        silent = f"{heartbeat.LIFETIME.total_seconds():g} s"
        yield failure(
            f"No worker that consumes the queue {INTERACTIVE} has renewed its heartbeat within {silent}.", _START
        )
        return
    try:
        queues: dict[str, Any] = app.control.inspect(timeout=_ANSWER_SECONDS).active_queues() or {}
    except (OperationalError, RedisError, OSError) as error:
        raise BrokerUnavailable(f"Workers cannot be reached ({type(error).__name__}).") from error
    if not queues:
        yield failure(f"No worker answers within {_ANSWER_SECONDS:g} s.", _START)
        return
    yield ok(f"running: {', '.join(sorted(queues))}")
    served = {queue["name"] for consumed in queues.values() for queue in consumed}
    for name in QUEUES:
        if name not in served:
            yield failure(f"No worker consumes the queue {name}.", f"Start a worker without -Q, or with -Q {name}.")


def check_beat(connections: Connections) -> Iterator[Finding]:
    """Check beat by its effect, the sweeps. Raises StoreUnavailable, StoreConflict."""
    state, settings = Checkpoints(connections), connections.settings
    now = connections.clock.now()
    swept = state.get(checkpoint_of(SWEEP)).get("begunAt")
    limit = max(3 * settings.sweep_interval, timedelta(seconds=15))
    if swept is None or now - swept > limit:
        last = "has ever run" if swept is None else f"has run for {(now - swept).total_seconds():,.0f} s"
        yield failure(
            f"No sweep {last}, so nothing repairs what Redis loses.",
            f"Start `snapshots celery beat`, and a worker that consumes the queue {MAINTENANCE}.",
        )
    else:
        yield ok(f"the last sweep was {max(0.0, (now - swept).total_seconds()):.1f} s ago")
    watched = state.get("closings").get("reached")
    if watched is None or now - watched > timedelta(minutes=1):
        yield warning(
            "No listener watches for closed conversations. The reconcile finds them, every "
            f"{settings.reconcile_interval.total_seconds() / 60:g} min.",
            "Start `snapshots listen`. If a listener is running, its log says what blocks its change stream.",
        )


def check_ledger(connections: Connections) -> Iterator[Finding]:
    """Check that the counts add up, and the age of the oldest request. Raises StoreUnavailable, StoreConflict."""
    try:
        with pymongo.timeout(_IDENTITY_SECONDS):
            counted = totals(connections)
    except StoreConflict:
        yield warning(f"The ledger could not be counted within {_IDENTITY_SECONDS} s.", "See the check `indexes`.")
        return
    found, mismatch = counted.identities, counted.last_mismatch
    if mismatch and connections.clock.now() - mismatch["at"] < _RECENT:
        yield warning(
            f"The stored counts of organization {mismatch['organizationId']} were wrong, and were corrected at "
            f"{mismatch['at']:%Y-%m-%d %H:%M} UTC.",
            "Look for other programs that write to the ledger or to the snapshots, processes of an older version, and "
            "members of MongoDB whose clocks differ.",
        )
    broken = [str(identity.organization) for identity in found if not identity.holds]
    if broken:
        shown = ", ".join(broken[:5]) + (f" and {len(broken) - 5} more" if len(broken) > 5 else "")
        yield failure(
            f"The counts of these organizations do not add up: {shown}.",
            "Run `snapshots status --organization ID` for each, and see docs/reliability.md.",
        )
    else:
        yield ok(f"requests: {sum(each.accepted for each in found):,}, organizations: {len(found):,}; all add up")
    since = oldest_request(connections)
    age = connections.clock.now() - since if since else timedelta(0)
    if age > _LATE:
        yield warning(
            f"The oldest request in flight has been waiting for {age.total_seconds() / 60:,.0f} min.",
            "Add workers if the queues are long (`snapshots status`). Otherwise run `snapshots requests list`.",
        )
