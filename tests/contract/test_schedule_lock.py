"""The schedule lock, on MongoDB's clock."""

from datetime import timedelta

import celeryconfig
from support.ledger import Bench
from worker.sweep.schedule_lock import acquire_schedule_lock, release_schedule_lock

MINUTE = timedelta(minutes=1)


def test_only_one_of_two_processes_acquires_the_lock(bench: Bench) -> None:
    assert acquire_schedule_lock(bench.service, "sweep", MINUTE) is not None
    assert acquire_schedule_lock(bench.service, "sweep", MINUTE) is None
    assert acquire_schedule_lock(bench.service, "reconcile", MINUTE) is not None


def test_work_is_due_again_after_half_of_the_interval(bench: Bench) -> None:
    assert acquire_schedule_lock(bench.service, "sweep", MINUTE) is not None
    begun = bench.service.clock.now() - MINUTE / 2 - timedelta(seconds=1)
    bench.database.snapshotstate.update_one({"_id": "turn:sweep"}, {"$set": {"begunAt": begun}})
    assert acquire_schedule_lock(bench.service, "sweep", MINUTE) is not None


def test_lock_set_by_a_former_primarys_clock_that_was_ahead_holds_nothing_back(bench: Bench) -> None:
    assert acquire_schedule_lock(bench.service, "sweep", MINUTE) is not None
    begun = bench.service.clock.now() + timedelta(minutes=10)
    bench.database.snapshotstate.update_one({"_id": "turn:sweep"}, {"$set": {"begunAt": begun}})
    assert acquire_schedule_lock(bench.service, "sweep", MINUTE) is not None
    assert acquire_schedule_lock(bench.service, "sweep", MINUTE) is None


def test_work_that_takes_long_is_not_begun_again_until_it_ends_or_its_lease_does(bench: Bench) -> None:
    every = timedelta(milliseconds=20)
    assert acquire_schedule_lock(bench.service, "sweep", every, lease=MINUTE) is not None
    bench.advance(seconds=5)
    assert acquire_schedule_lock(bench.service, "sweep", every, lease=MINUTE) is None
    release_schedule_lock(bench.service, "sweep", resumeAt="replay")
    previous = acquire_schedule_lock(bench.service, "sweep", every, lease=MINUTE)
    assert previous is not None
    assert previous["resumeAt"] == "replay"
    bench.advance(seconds=61)
    assert acquire_schedule_lock(bench.service, "sweep", every, lease=MINUTE) is not None


def test_workers_whose_clocks_are_ahead_of_beats_still_sweep() -> None:
    """Found by the chaos run: with `expires`, such workers dropped every sweep as too old."""
    assert "expires" not in str(celeryconfig.beat_schedule)
