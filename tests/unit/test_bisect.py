"""Items are processed together, and in halves where that fails."""

from collections.abc import Sequence
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from celery.exceptions import SoftTimeLimitExceeded
from pymongo import _csot

import worker.celery  # noqa: F401 - registers Celery's soft time limit as an interrupt
from worker.errors import DeadlineExceeded, StoreConflict, StoreUnavailable, UnexpectedError
from worker.settings import load
from worker.stores.bisect import bisect


def connections(*, answers: bool = True, deadline: float = 10.0) -> Any:
    settings = load().model_copy(update={"run_deadline": timedelta(seconds=deadline)})
    return SimpleNamespace(settings=settings, store_answers=lambda: answers)


def double(items: Sequence[int]) -> list[int]:
    """Fails for a batch that contains 5 or 7."""
    for item in items:
        if item == 5:
            raise KeyError(item)
        if item == 7:
            raise StoreConflict
    return [2 * item for item in items]


def test_only_faulty_items_get_an_error() -> None:
    results = bisect(double, range(9), connections())
    faults = {place: type(result) for place, result in enumerate(results) if not isinstance(result, int)}
    assert faults == {5: UnexpectedError, 7: StoreConflict}
    assert [result for result in results if isinstance(result, int)] == [0, 2, 4, 6, 8, 12, 16]


def test_several_items_leave_time_to_find_the_slow_one() -> None:
    given: list[tuple[int, float | None]] = []

    def process(items: Sequence[int]) -> Sequence[int]:
        given.append((len(items), _csot.remaining()))
        if 5 in items and len(items) > 1:
            raise StoreConflict("MongoDB timed out.")
        return items

    assert bisect(process, range(16), connections()) == list(range(16))
    (first, seconds), *others = given
    assert first == 16
    assert seconds == pytest.approx(20 / 3, abs=0.5)
    assert {seconds is None for count, seconds in others if count == 1} == {True}
    assert all(seconds and 0 < seconds < 7 for count, seconds in others if count > 1)


def test_nothing_is_split_after_the_run_deadline() -> None:
    """The remaining items get a transient error whatever the cause, since most of them are not at fault."""
    results = bisect(double, range(9), connections(deadline=0))
    assert [type(result) for result in results] == [DeadlineExceeded] * 9


def test_a_store_that_does_not_answer_ends_the_search() -> None:
    with pytest.raises(StoreUnavailable):
        bisect(double, [1, 7], connections(answers=False))
    assert bisect(double, [], connections()) == []


def test_celerys_soft_time_limit_is_no_items_fault() -> None:
    def interrupted(items: Sequence[int]) -> list[int]:
        raise SoftTimeLimitExceeded

    with pytest.raises(SoftTimeLimitExceeded):
        bisect(interrupted, range(4), connections())
