"""Wake-ups: how requests are divided into messages."""

import json
from typing import Any, cast

import pytest
from bson import ObjectId

from worker.domain.ledger_entry import LedgerEntry
from worker.stores.wakeups import STAMP, _stamp_of, chunks_of, repr_of


def entries(*message_ids: int) -> list[LedgerEntry]:
    return [cast("LedgerEntry", {"_id": ObjectId(), "messageIds": [ObjectId()] * many}) for many in message_ids]


@pytest.mark.parametrize(
    ("many", "most", "sizes"),
    [
        ([], 3, []),
        ([0], 3, [1]),
        ([0] * 7, 3, [3, 3, 1]),
        ([0] * 3, 1, [1, 1, 1]),
        ([10_000, 0, 0], 200, [1, 2]),
        ([0, 10_000, 0], 200, [1, 1, 1]),
        ([5_000, 6_000, 0], 200, [1, 2]),
        ([49] * 4, 4, [4]),
    ],
)
def test_requests_are_chunked_by_count_and_by_the_messages_they_name(
    many: list[int], most: int, sizes: list[int]
) -> None:
    given = entries(*many)
    chunks = list(chunks_of(given, most))
    assert [len(each) for each in chunks] == sizes
    assert [key for chunk in chunks for key in chunk] == [str(each["_id"]) for each in given]


def test_request_without_message_ids_counts_as_one() -> None:
    assert [len(each) for each in chunks_of([cast("LedgerEntry", {"_id": n}) for n in range(5)], 2)] == [2, 2, 1]


def test_arguments_are_shown_as_ids_alone() -> None:
    assert repr_of(["a"]) == "a"
    assert repr_of(["a", "b"]) == "2 requests from a"


@pytest.mark.parametrize("stamp", [1e20, "NaN", "Infinity", -1e18, 8e15, True, "soon", None, [1]])
def test_invalid_stamp_is_none_or_far_ahead(stamp: Any) -> None:
    shown = stamp if stamp in ("NaN", "Infinity") else json.dumps(stamp)
    found = _stamp_of(f'{{"headers": {{"{STAMP}": {shown}}}}}')
    assert found is None or found.year in (1970, 9999)


@pytest.mark.parametrize(
    "message", [b"[" * 100_000, b'{"headers":' * 100_000, b"\xff\xfe", b"", b"5", b'{"headers":[]}']
)
def test_message_that_is_none_has_no_stamp(message: bytes) -> None:
    assert _stamp_of(message) is None
