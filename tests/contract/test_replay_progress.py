"""A replay's progress, and how a restart of Redis is recognized."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from support.ledger import Bench
from support.sweeping import completed_on_different_days, event_ids, events_of, sweep
from worker.errors import BrokerUnavailable
from worker.stores.checkpoints import Checkpoints
from worker.sweep import replay
from worker.sweep.replay import Replay


def test_late_events_of_sweeps_at_once_are_all_noted(bench: Bench) -> None:
    """A sweep that read the note before another changed it must not overwrite the older time."""
    at = bench.service.clock.now()
    times = [at - timedelta(minutes=number) for number in range(1, 41)]
    notes = [Replay(bench.service) for _ in range(4)]
    with ThreadPoolExecutor(4) as sweeps:
        list(sweeps.map(lambda pair: notes[pair[0] % 4].note_late(pair[1], at), enumerate(times)))
    assert Checkpoints(bench.connections).get("redis")["lateFrom"] == times[-1]


def test_two_replays_at_once_do_not_set_each_other_back(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "_BATCH", 1)
    completed_on_different_days(bench, 6)
    bench.connections.redis.flushdb()
    other = bench.another()
    emit, reached = bench.service.events.emit, []

    def overtaken(entries: Any) -> None:
        """The other sweep replays everything while this one is in its first batch."""
        bench.service.events.emit = emit  # type: ignore[method-assign]
        emit(entries)
        reached.append(sweep(other).replayed)

    bench.service.events.emit = overtaken  # type: ignore[method-assign]
    try:
        assert sweep(bench).replayed == 1
    finally:
        other.connections.close()
    assert reached == [6]
    assert Checkpoints(bench.connections).get("redis")["owedFrom"] is None


def test_replay_that_fails_continues_where_it_stopped(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The flush took the pulse too, which only a complete sweep writes: its absence is no second loss."""
    monkeypatch.setattr(replay, "_BATCH", 1)
    keys = completed_on_different_days(bench, 6)
    bench.connections.redis.flushdb()
    emit, calls = bench.service.events.emit, iter(range(10))

    def fail_at_fourth(entries: Any) -> None:
        if next(calls) == 3:
            raise BrokerUnavailable
        emit(entries)

    bench.service.events.emit = fail_at_fourth  # type: ignore[method-assign]
    with pytest.raises(BrokerUnavailable):
        sweep(bench)
    assert len(event_ids(bench)) == 3
    assert sweep(bench).replayed == 4  # it begins with the event that it ended with
    assert set(event_ids(bench)) == events_of(keys)


def test_replay_that_version_0_1_0_began_is_continued(bench: Bench) -> None:
    """That version completed a sweep, with its pulse, although events were still owed; it knew Redis by its run id."""
    keys = completed_on_different_days(bench, 4)
    known = Checkpoints(bench.connections).get("redis")
    bench.connections.redis.delete(bench.settings.events_stream)
    Checkpoints(bench.connections).collection.replace_one(
        {"_id": "redis"},
        {
            "runId": "f00d",
            "marker": known["marker"],
            "goodAt": known["goodAt"],
            "owedFrom": bench.ago(days=4),
            "owedUntil": known["goodAt"],
        },
    )
    sweep(bench)
    assert set(event_ids(bench)) == events_of(keys)
    now = Checkpoints(bench.connections).get("redis")
    assert (now["owedFrom"], now["runId"], now["marker"]) == (None, "f00d", known["marker"])
