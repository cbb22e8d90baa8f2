"""Retry decisions: whether a failed attempt is followed by another, and after how long. Pure."""

import random
from dataclasses import dataclass
from datetime import datetime, timedelta

from worker.errors import ParentMissing, PermanentError, RetriesExhausted, SnapshotError, StoreUnavailable
from worker.settings import Settings


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again after this delay."""

    delay: timedelta


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Fail the request with this error."""

    error: PermanentError


def backoff(attempts: int, settings: Settings, dice: random.Random | None = None) -> timedelta:
    """Return an exponential delay with jitter: between half of it and all of it, and never below the floor.

    Full jitter could be 0 s.
    """
    floor, ceiling = settings.retry_floor, settings.retry_ceiling
    most: timedelta = min(ceiling, floor * 2 ** min(attempts, 20))
    share: float = (dice or random).uniform(0.5, 1.0)
    return max(floor, most * share)


def next_attempt(error: SnapshotError, attempts: int, settings: Settings, *, awaited: int = 0) -> Retry | GiveUp:
    """Decide what follows an attempt that ended with `error`.

    `attempts`: the failed attempts before it; `awaited`: how many of those found a parent document missing. The number
    of attempts is unlimited while MongoDB is down or while a missing parent may still come, a time that the caller
    limits. Otherwise it is limited to `retry_attempts`.
    """
    if isinstance(error, PermanentError):
        return GiveUp(error)
    limited = not isinstance(error, StoreUnavailable | ParentMissing)
    if limited and attempts - awaited + 1 >= settings.retry_attempts:
        return GiveUp(RetriesExhausted(attempts=attempts + 1, lastError=error.code, lastMessage=error.message))
    return Retry(backoff(attempts, settings))


def may_still_come(waiting_since: datetime, now: datetime, settings: Settings) -> bool:
    """Return whether to keep waiting for a parent document that is missing now."""
    return now - waiting_since < settings.parent_wait
