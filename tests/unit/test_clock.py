"""MongoDB's clock, shared by the threads of a process."""

import time
from datetime import UTC, datetime, timedelta

import pytest

from worker import clock
from worker.clock import Clock, from_milliseconds
from worker.errors import StoreUnavailable

MOMENT = datetime(2026, 5, 18, tzinfo=UTC)


def test_refresh_that_fails_beside_one_that_succeeds_mixes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server time of one read combined with the moment of another would be a minute behind."""
    monkeypatch.setattr(clock, "REFRESH_SECONDS", -1.0)
    answers = iter([MOMENT])

    def read() -> datetime:
        if answer := next(answers, None):
            return answer
        shared._known = (MOMENT + timedelta(minutes=1), time.monotonic())
        raise StoreUnavailable

    shared = Clock(read)
    shared.now()
    shared._known = (MOMENT, time.monotonic() - 60)
    assert shared.now() >= MOMENT + timedelta(minutes=1)


def test_clock_that_was_never_read_raises_store_unavailable() -> None:
    def away() -> datetime:
        raise StoreUnavailable

    with pytest.raises(StoreUnavailable):
        Clock(away).now()


def test_milliseconds_beyond_the_year_9999_give_its_end() -> None:
    assert from_milliseconds(10**20).year == 9999
