"""How requests are put into messages."""

from typing import Any

import pytest
from bson import ObjectId

from worker.wakeups import chunks_of, repr_of


def entries(*message_ids: int) -> list[dict[str, Any]]:
    return [{"_id": ObjectId(), "messageIds": [ObjectId()] * many} for many in message_ids]


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
    assert [len(each) for each in chunks_of([{"_id": n} for n in range(5)], 2)] == [2, 2, 1]


def test_arguments_are_shown_as_ids_alone() -> None:
    assert repr_of(["a"]) == "a"
    assert repr_of(["a", "b"]) == "2 requests from a"
