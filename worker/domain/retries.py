"""Whether a failed attempt is tried again, and when: a decision that is a value."""

import random
from dataclasses import dataclass
from datetime import datetime, timedelta

from worker.errors import ParentNotYetThere, PermanentError, RetriesExhausted, SnapshotError, StoreUnavailable
from worker.settings import Settings


@dataclass(frozen=True, slots=True)
class TryAgain:
    """After this wait."""

    delay: timedelta


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The request fails with this."""

    error: PermanentError


def backoff(attempts: int, settings: Settings, dice: random.Random | None = None) -> timedelta:
    """Exponential with jitter between half and all of it, never under the floor (full jitter can be 0 s)."""
    floor, ceiling = settings.retry_floor, settings.retry_ceiling
    most: timedelta = min(ceiling, floor * 2 ** min(attempts, 20))
    share: float = (dice or random).uniform(0.5, 1.0)
    return max(floor, most * share)


def after(error: SnapshotError, attempts: int, settings: Settings, *, awaited: int = 0) -> TryAgain | GiveUp:
    """What follows an attempt that met `error`, `attempts` counting the ones before it, `awaited` those of them that
    met a parent document not there yet.

    Without limit while the store is down or a parent document may still come (who awaits it counts the time);
    otherwise up to `retry_attempts`.
    """
    if isinstance(error, PermanentError):
        return GiveUp(error)
    limited = not isinstance(error, StoreUnavailable | ParentNotYetThere)
    if limited and attempts - awaited + 1 >= settings.retry_attempts:
        return GiveUp(RetriesExhausted(attempts=attempts + 1, lastError=error.code, lastMessage=error.message))
    return TryAgain(backoff(attempts, settings))


def may_still_come(waiting_since: datetime, now: datetime, settings: Settings) -> bool:
    """Whether a parent document that is missing now is still waited for."""
    return now - waiting_since < settings.parent_wait
