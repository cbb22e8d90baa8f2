"""Retry decisions: whether a failed attempt is followed by another, and after how long. Pure."""

import random
from dataclasses import dataclass
from datetime import datetime, timedelta

from worker.errors import ParentMissing, PermanentError, RetriesExhausted, SnapshotError, StoreUnavailable
from worker.settings import Settings


@dataclass(frozen=True, slots=True)
class Retry:
    """The decision to try again after this delay."""

    delay: timedelta


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The decision to fail the request with this error."""

    error: PermanentError


def backoff(attempts: int, settings: Settings, dice: random.Random | None = None) -> timedelta:
    """Return how long to wait before the next attempt: an exponential delay with jitter.

    The result is between half of the delay and all of it, because full jitter could be 0 s, and never below the floor.

    Args:
        attempts: The failed attempts so far, from 0. Each doubles the delay.
        settings: `retry_floor` and `retry_ceiling` bound the delay.
        dice: The source of the jitter, for tests.
    """
    floor, ceiling = settings.retry_floor, settings.retry_ceiling
    most: timedelta = min(ceiling, floor * 2 ** min(attempts, 20))
    share: float = (dice or random).uniform(0.5, 1.0)
    return max(floor, most * share)


def next_attempt(error: SnapshotError, attempts: int, settings: Settings, *, awaited: int = 0) -> Retry | GiveUp:
    """Decide what follows an attempt that ended with an error.

    A permanent error fails the request. The number of attempts is unlimited while MongoDB is down, and while a missing
    contact or conversation may still come, a time that the caller limits with `may_still_come`. Otherwise it is limited
    to `retry_attempts`.

    Args:
        error: The error of this attempt.
        attempts: The failed attempts before it.
        awaited: How many of those found a contact or conversation missing; they do not count.

    Returns:
        A Retry with the delay, or a GiveUp with the error of the request, which is RetriesExhausted if there were too
        many.

    Example:
        next_attempt(ContactErased(), attempts=0, settings=settings())  # GiveUp(error=ContactErased(...))
    """
    if isinstance(error, PermanentError):
        return GiveUp(error)
    limited = not isinstance(error, StoreUnavailable | ParentMissing)
    if limited and attempts - awaited + 1 >= settings.retry_attempts:
        return GiveUp(RetriesExhausted(attempts=attempts + 1, lastError=error.code, lastMessage=error.message))
    return Retry(backoff(attempts, settings))


def may_still_come(waiting_since: datetime, now: datetime, settings: Settings) -> bool:
    """Return whether to keep waiting for a contact or conversation that is missing: for less than `parent_wait`.

    `waiting_since`: when the request was accepted, became due or was redriven, whichever is latest.
    """
    return now - waiting_since < settings.parent_wait
