"""Work that is due every so often, whoever does it, by MongoDB's clock."""

from datetime import timedelta

import celeryconfig
from support.ledger import Bench
from worker.sweep.schedule_lock import take_turn

MINUTE = timedelta(minutes=1)


def test_one_of_two_takes_a_turn(bench: Bench) -> None:
    assert take_turn(bench.service, "sweep", MINUTE)
    assert not take_turn(bench.service, "sweep", MINUTE)
    assert take_turn(bench.service, "reconcile", MINUTE)


def test_the_next_turn_is_due_after_half_of_the_interval(bench: Bench) -> None:
    assert take_turn(bench.service, "sweep", MINUTE)
    begun = bench.service.clock.now() - MINUTE / 2 - timedelta(seconds=1)
    bench.database.snapshotstate.update_one({"_id": "turn:sweep"}, {"$set": {"begunAt": begun}})
    assert take_turn(bench.service, "sweep", MINUTE)


def test_turn_by_the_clock_of_a_primary_that_was_ahead_is_not_waited_for(bench: Bench) -> None:
    assert take_turn(bench.service, "sweep", MINUTE)
    begun = bench.service.clock.now() + timedelta(minutes=10)
    bench.database.snapshotstate.update_one({"_id": "turn:sweep"}, {"$set": {"begunAt": begun}})
    assert take_turn(bench.service, "sweep", MINUTE)
    assert not take_turn(bench.service, "sweep", MINUTE)


def test_workers_whose_clocks_are_ahead_of_beats_still_sweep() -> None:
    """Found by the chaos run: with `expires`, such workers dropped every sweep as too old."""
    assert "expires" not in str(celeryconfig.beat_schedule)
