"""Retry decisions: whether a failed attempt is followed by another, and after how long."""

import random
from datetime import UTC, datetime, timedelta

import pytest

from worker.domain.retries import GiveUp, Retry, backoff, may_still_come, next_attempt
from worker.errors import (
    BrokerUnavailable,
    DeadlineExceeded,
    EmptyConversation,
    ParentMissing,
    SnapshotError,
    StoreConflict,
    StoreUnavailable,
    UnexpectedError,
)
from worker.settings import load

SETTINGS = load(retry_attempts=3, retry_floor=timedelta(seconds=1), retry_ceiling=timedelta(seconds=30))

DECISIONS: list[tuple[SnapshotError, int, str | None]] = [
    (StoreConflict(), 0, None),
    (StoreConflict(), 1, None),
    (StoreConflict(), 2, "retries_exhausted"),
    (StoreConflict(), 99, "retries_exhausted"),
    (BrokerUnavailable(), 2, "retries_exhausted"),
    (DeadlineExceeded(), 2, "retries_exhausted"),
    (UnexpectedError(), 1, None),
    (UnexpectedError(), 2, "retries_exhausted"),
    (StoreUnavailable(), 1_000_000, None),
    (ParentMissing(), 1_000_000, None),
    (EmptyConversation(), 0, "empty_conversation"),
]


@pytest.mark.parametrize(("error", "attempts", "fails_with"), DECISIONS)
def test_error_and_attempts_decide_what_follows(error: SnapshotError, attempts: int, fails_with: str | None) -> None:
    match next_attempt(error, attempts, SETTINGS):
        case GiveUp(final):
            assert final.code == fails_with
        case Retry(delay):
            assert fails_with is None
            assert SETTINGS.retry_floor <= delay <= SETTINGS.retry_ceiling


def test_waiting_for_a_parent_uses_no_attempts() -> None:
    assert isinstance(next_attempt(StoreConflict(), 9, SETTINGS, awaited=9), Retry)
    assert isinstance(next_attempt(StoreConflict(), 9, SETTINGS, awaited=7), GiveUp)


def test_exhausted_retries_name_the_last_error() -> None:
    decision = next_attempt(StoreConflict("MongoDB timed out."), 2, SETTINGS)
    assert isinstance(decision, GiveUp)
    assert decision.error.details == {
        "attempts": 3,
        "lastError": "store_conflict",
        "lastMessage": "MongoDB timed out.",
    }


@pytest.mark.parametrize(
    ("attempts", "least", "most"),
    [(0, 1, 1), (1, 1, 2), (2, 2, 4), (3, 4, 8), (4, 8, 16), (5, 15, 30), (9_999, 15, 30)],
)
def test_backoff_doubles_between_floor_and_ceiling(attempts: int, least: float, most: float) -> None:
    delays = [backoff(attempts, SETTINGS, random.Random(seed)).total_seconds() for seed in range(200)]
    assert least <= min(delays) <= max(delays) <= most
    if least < most:
        assert len(set(delays)) > 100


def test_missing_parent_is_awaited_for_the_configured_time() -> None:
    start = datetime(2026, 5, 18, tzinfo=UTC)
    assert may_still_come(start, start + timedelta(seconds=59.999), SETTINGS)
    assert not may_still_come(start, start + timedelta(seconds=60), SETTINGS)
