"""The times for which snapshots are kept, as they are given and applied."""

from datetime import UTC, datetime, timedelta

from worker.domain.keep_for import KeepFor, check_keep_for

NOW = datetime(2026, 5, 13, tzinfo=UTC)


def test_times_are_read_by_quality_also_with_an_equals_sign() -> None:
    times = KeepFor.read(["400d", "good = 12h", "a=b=1d"])
    assert times.general == timedelta(days=400)
    assert times.by_quality == {"good": timedelta(hours=12), "a=b": timedelta(days=1)}
    assert check_keep_for(["400d", " good = 12h"]) == ["400d", "good=12h"]


def test_quality_of_its_own_is_left_out_of_the_general_time() -> None:
    condition = KeepFor.read(["400d", "good=1000d"]).expired(NOW)
    assert condition == {
        "createdAt": {"$lt": NOW - timedelta(days=400)},
        "$or": [
            {"quality": "good", "createdAt": {"$lt": NOW - timedelta(days=1000)}},
            {"quality": {"$nin": ["good"]}, "createdAt": {"$lt": NOW - timedelta(days=400)}},
        ],
    }
    assert KeepFor.read([]).expired(NOW) is None
