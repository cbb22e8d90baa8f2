"""What the driver sends again, which must not hide that a request was lost."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chaos.dataset import PlannedRequest
from chaos.driver import Driver
from chaos.journal import NOT_TAKEN, SENT, UNKNOWN, Journal

ORGANIZATION = "a" * 24


class EmptyLedger:
    """A ledger that has none of the requests."""

    def find(self, *_: Any) -> list[Any]:
        return []


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Driver]:
    settings: Any = None
    journal = Journal(tmp_path / "sent.jsonl")
    yield Driver(settings, {}, journal, random.Random(1))
    journal.close()


def planned(channel: str, request_id: str | None) -> PlannedRequest:
    return PlannedRequest("n0000000", channel, {"organizationId": ORGANIZATION}, "completed", 1, request_id)


@pytest.mark.parametrize(
    ("channel", "request_id", "taken_as", "expected"),
    [
        ("stream", None, "stream:1-0", 0),
        ("burst", None, "stream:1-0", 0),
        ("task", None, "task:n0000000", 0),
        ("stream", "chaos-n0000000", "chaos-n0000000", 1),
        ("task", "chaos-n0000000", "chaos-n0000000", 1),
    ],
)
def test_what_redis_took_is_sent_again_only_if_it_has_a_request_id(
    driver: Driver, channel: str, request_id: str | None, taken_as: str, expected: int
) -> None:
    driver._unsettled = 1
    driver._repeat_missing(EmptyLedger(), {"n0000000": (float("-inf"), planned(channel, request_id), taken_as)})
    assert len(driver._heap) == driver.unsettled == expected


@pytest.mark.parametrize(
    ("channel", "answer", "settled"),
    [
        ("stream", UNKNOWN, True),
        ("burst", UNKNOWN, True),
        ("stream", NOT_TAKEN, False),
        ("burst", NOT_TAKEN, False),
        ("task", UNKNOWN, False),
    ],
)
def test_request_without_an_answer_is_sent_again_only_if_it_stays_the_same_request(
    driver: Driver, channel: str, answer: str, settled: bool
) -> None:
    driver._unsettled = 1
    assert driver._settle(planned(channel, None), (answer, None)) is settled
    assert driver.unsettled == (not settled)


def test_taken_request_is_watched_until_it_is_in_the_ledger(driver: Driver) -> None:
    driver._unsettled = 1
    assert driver._settle(planned("task", None), (SENT, "task:n0000000"))
    assert driver.unsettled == 1
