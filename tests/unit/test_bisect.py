"""Many at once, and in halves where that fails."""

from collections.abc import Sequence
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from worker.errors import DeadlineExceeded, StoreConflict, StoreUnavailable, Unexpected
from worker.settings import load
from worker.stores.bisect import in_halves


def connections(*, answers: bool = True, deadline: float = 10.0) -> Any:
    settings = load().model_copy(update={"run_deadline": timedelta(seconds=deadline)})
    return SimpleNamespace(settings=settings, store_answers=lambda: answers)


def doubled(items: Sequence[int]) -> list[int]:
    for each in items:
        if each == 5:
            raise KeyError(each)
        if each == 7:
            raise StoreConflict
    return [2 * each for each in items]


def test_those_at_fault_stand_alone() -> None:
    found = in_halves(doubled, range(9), connections())
    faults = {place: type(each) for place, each in enumerate(found) if not isinstance(each, int)}
    assert faults == {5: Unexpected, 7: StoreConflict}
    assert [each for each in found if isinstance(each, int)] == [0, 2, 4, 6, 8, 12, 16]


def test_nothing_is_halved_after_the_time_of_a_run() -> None:
    """What is left has a fault that passes, whatever it was: the innocent are among it."""
    found = in_halves(doubled, range(9), connections(deadline=0))
    assert [type(each) for each in found] == [DeadlineExceeded] * 9


def test_store_that_does_not_answer_ends_it() -> None:
    with pytest.raises(StoreUnavailable):
        in_halves(doubled, [1, 7], connections(answers=False))
    assert in_halves(doubled, [], connections()) == []
