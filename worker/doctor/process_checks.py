"""Workers, beat, and what they leave undone."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pymongo
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from worker.celery import app
from worker.doctor.findings import Finding, failure, ok, warning
from worker.errors import BrokerUnavailable, StoreConflict
from worker.stores.checkpoints import State
from worker.stores.connections import Connections
from worker.stores.stats import identities, oldest_request
from worker.stores.wakeups import MAINTENANCE, REQUEST_QUEUES

_PATIENCE = 1.5
"""Seconds that workers have to answer."""
_LATE = timedelta(minutes=10)
_IDENTITY_SECONDS = 30
_START = "Start `celery -A worker worker -P prefork -c 1`; its log says what keeps it."


def check_workers(_: Connections) -> Iterator[Finding]:
    """Raises BrokerUnavailable."""
    try:
        queues: dict[str, Any] = app.control.inspect(timeout=_PATIENCE).active_queues() or {}
    except (OperationalError, RedisError, OSError) as error:
        raise BrokerUnavailable(f"Workers cannot be asked ({type(error).__name__}).") from error
    if not queues:
        yield failure(f"No worker answers within {_PATIENCE:g} s.", _START)
        return
    yield ok(f"{len(queues)} worker(s): {', '.join(sorted(queues))}")
    served = {each["name"] for found in queues.values() for each in found}
    for name in (*REQUEST_QUEUES, MAINTENANCE):
        if name not in served:
            yield failure(
                f"No worker takes messages from the queue {name}.", f"Start one without -Q, or with -Q {name}."
            )


def check_beat(connections: Connections) -> Iterator[Finding]:
    """By what it brings about: sweeps. Raises StoreUnavailable, StoreConflict."""
    state, settings = State(connections), connections.settings
    now = connections.clock.now()
    swept = state.get("turn:sweep").get("begunAt")
    limit = max(3 * settings.sweep_interval, timedelta(seconds=15))
    if swept is None or now - swept > limit:
        ago = "ever" if swept is None else f"for {(now - swept).total_seconds():,.0f} s"
        yield failure(
            f"There was no sweep {ago}: what Redis loses is not repaired.",
            f"Start `celery -A worker beat`, one of it, and a worker that takes the queue {MAINTENANCE}.",
        )
    else:
        yield ok(f"the last sweep was {max(0.0, (now - swept).total_seconds()):.1f} s ago")
    watched = state.get("closings").get("reached")
    if watched is None or now - watched > timedelta(minutes=1):
        yield warning(
            "No one watches for closings; the reconcile finds them every "
            f"{settings.reconcile_interval.total_seconds() / 60:g} min.",
            "Start `snapshots listen`; its log says what keeps its change stream.",
        )


def check_ledger(connections: Connections) -> Iterator[Finding]:
    """Whether the counts add up, and what waits. Raises StoreUnavailable, StoreConflict."""
    try:
        with pymongo.timeout(_IDENTITY_SECONDS):
            found = identities(connections)
    except StoreConflict:
        yield warning(f"The ledger could not be counted within {_IDENTITY_SECONDS} s.", "See the check of the indexes.")
        return
    broken = [str(each.organization) for each in found if not each.holds]
    if broken:
        shown = ", ".join(broken[:5]) + (f" and {len(broken) - 5} more" if len(broken) > 5 else "")
        yield failure(
            f"The counts of {len(broken)} organization(s) do not add up: {shown}.",
            "`snapshots status --organization ID` shows them; see docs/reliability.md.",
        )
    else:
        yield ok(f"{sum(each.accepted for each in found):,} requests of {len(found)} organization(s) add up")
    since = oldest_request(connections)
    age = connections.clock.now() - since if since else timedelta(0)
    if age > _LATE:
        yield warning(
            f"The oldest request in flight waits for {age.total_seconds() / 60:,.0f} min.",
            "More workers, if the queues are long (`snapshots status`); else `snapshots requests list` says why.",
        )
