"""Events that were not emitted, or that Redis lost, are emitted again with the same ids."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pytest
from bson import ObjectId

from support.ledger import Bench
from support.sweeping import completed, completed_on_different_days, event_ids, events_of, sweep
from worker.clock import Clock, milliseconds
from worker.errors import BrokerUnavailable
from worker.local.embedded import Servers
from worker.local.processes import Child
from worker.runs.run import Run
from worker.stores.key_types import MARKER_KEY
from worker.sweep import replay
from worker.sweep import sweep as sweeping
from worker.sweep.redis_state import PULSE_KEY
from worker.sweep.replay import Replay


@pytest.fixture
def valkey(servers: Servers) -> Child:
    """The Redis-compatible server that these tests started, and so may restart."""
    if servers.valkey is None:
        pytest.skip("restarts only a Redis of its own")
    return servers.valkey


def decided_without_event(bench: Bench, count: int = 3) -> list[ObjectId]:
    """Their run died between its decision and the event."""
    keys = bench.chunk(count)
    emit = bench.service.events.emit

    def die(_: Any) -> None:
        raise BrokerUnavailable

    bench.service.events.emit = die  # type: ignore[method-assign,assignment]
    Run(bench.service)(keys)
    bench.service.events.emit = emit  # type: ignore[method-assign]
    return keys


def test_unsent_events_are_emitted_once_their_run_must_have_ended(bench: Bench) -> None:
    sweep(bench)
    keys = decided_without_event(bench)
    assert sweep(bench).emitted == 0
    bench.change(keys, finishedAt=bench.ago(seconds=16))
    expected = events_of(keys)
    assert sweep(bench).emitted == 3
    assert set(event_ids(bench)) == expected
    assert not any(each.get("unsent") for each in bench.entries(keys))
    assert sweep(bench).emitted == 0


def test_each_unsent_event_is_emitted_once_however_many_there_are(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep(bench)
    keys = decided_without_event(bench, 7)
    bench.change(keys, finishedAt=bench.ago(seconds=16))
    monkeypatch.setattr(sweeping, "_BATCH", 2)
    assert sweep(bench).emitted == 7
    assert len(event_ids(bench)) == 7


def test_flush_replays_every_event_with_its_id_and_content(bench: Bench) -> None:
    contact = bench.contact()
    keys = [*bench.chunk(20), *bench.accepted(bench.asked(contact))]
    Run(bench.service)(keys)
    sweep(bench)
    before = {each["id"]: each for each in bench.events()}
    assert len(before) == 21
    bench.connections.redis.flushdb()
    assert sweep(bench).replayed == 21
    assert {each["id"]: each for each in bench.events()} == before
    assert sweep(bench).replayed == 0


def test_event_emitted_but_not_marked_as_sent_at_the_flush_is_replayed(bench: Bench) -> None:
    """Its run was between the two steps, and marks it as sent after the sweep has looked."""
    sweep(bench)
    keys = bench.chunk(2)
    finish = bench.service.ledger.finish

    def flush_first(entries: Any, **how: Any) -> None:
        bench.connections.redis.flushdb()
        sweep(bench)
        finish(entries, **how)

    bench.service.ledger.finish = flush_first  # type: ignore[method-assign]
    Run(bench.service)(keys)
    assert set(event_ids(bench)) == events_of(keys)


def test_events_older_than_the_retention_and_stripped_ones_are_not_replayed(bench: Bench) -> None:
    keys = bench.chunk(3)
    Run(bench.service)(keys)
    bench.change(keys[:1], finishedAt=bench.ago(days=8))
    bench.database.snapshotrequests.update_one({"_id": keys[1]}, {"$unset": {"acceptedAt": "", "trigger": ""}})
    sweep(bench)
    bench.connections.redis.flushdb()
    assert sweep(bench).replayed == 1
    assert event_ids(bench) == [f"{keys[2]}.0"]


def test_flush_during_a_replay_starts_it_over(bench: Bench) -> None:
    completed(bench, 5)
    bench.connections.redis.flushdb()
    emit = bench.service.events.emit

    def flush_after(entries: Any) -> None:
        emit(entries)
        bench.connections.redis.flushdb()

    bench.service.events.emit = flush_after  # type: ignore[method-assign]
    sweep(bench)
    bench.service.events.emit = emit  # type: ignore[method-assign]
    assert event_ids(bench) == []
    assert sweep(bench).replayed == 5
    assert len(event_ids(bench)) == 5


def test_outcomes_dated_ahead_by_a_former_primary_are_emitted_too(bench: Bench) -> None:
    sweep(bench)
    keys = decided_without_event(bench, 2)
    done = bench.chunk(2)
    Run(bench.service)(done)
    bench.change([*keys, *done], finishedAt=bench.ago(minutes=-10))
    assert sweep(bench).emitted == 2
    bench.connections.redis.flushdb()
    assert sweep(bench).replayed == 4
    assert set(event_ids(bench)) == events_of([*keys, *done])


def test_restart_after_a_primary_whose_clock_was_ahead_replays_recent_events(bench: Bench) -> None:
    completed(bench, 1)
    ahead = bench.ago(minutes=-10)
    state = {"goodAt": ahead, "instance": "before the restart", "lateAt": None, "lateFrom": None}
    bench.database.snapshotstate.update_one({"_id": "redis"}, {"$set": state})
    bench.connections.redis.set(PULSE_KEY, milliseconds(ahead))
    assert sweep(bench).replayed == 1


def test_crash_before_the_new_marker_repeats_the_events(bench: Bench) -> None:
    completed(bench, 2)
    bench.connections.redis.flushdb()
    bench.database.snapshotstate.update_one({"_id": "redis"}, {"$set": {"marker": "never set"}})
    assert sweep(bench).replayed == 2


def test_restart_of_redis_replays_recent_events_and_keeps_the_marker(bench: Bench, valkey: Child) -> None:
    old, recent = bench.chunk(2)
    Run(bench.service)([old])
    sweep(bench)  # Redis is new to it: what it emits again now, a crash may take
    bench.advance(minutes=1)
    Run(bench.service)([recent])
    sweep(bench)
    marker = bench.connections.redis.get(MARKER_KEY)
    valkey.restart()
    bench.connections.redis.connection_pool.disconnect()
    assert sweep(bench).replayed == 1
    assert event_ids(bench)[-1] == f"{recent}.0"
    assert bench.connections.redis.get(MARKER_KEY) == marker
    assert sweep(bench).replayed == 0


def test_crash_of_redis_during_a_replay_of_old_events_replays_the_last_of_them(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flush, and more to emit again than one sweep does; then a crash that takes the last second."""
    monkeypatch.setattr(replay, "_BATCH", 1)
    monkeypatch.setattr(replay, "_SECONDS", 0.0)
    keys = completed_on_different_days(bench, 6)
    bench.connections.redis.flushdb()
    for _ in range(3):
        sweep(bench)
    assert len(event_ids(bench)) == 5
    redis: Any = bench.connections.redis
    newest = redis.xrevrange(bench.settings.events_stream, count=4)  # each sweep repeats the one that it begins with
    redis.xdel(bench.settings.events_stream, *(key for key, _ in newest))
    bench.database.snapshotstate.update_one({"_id": "redis"}, {"$set": {"instance": "before the crash"}})
    while sweep(bench).replayed:
        pass
    assert set(event_ids(bench)) == events_of(keys)


@pytest.mark.parametrize("pulse", ["older", "gone", "unreadable", "absurd"])
def test_redis_that_comes_back_with_an_older_state_gets_every_event_replayed(bench: Bench, pulse: str) -> None:
    """As from a backup, a replica that lagged, or an append-only file that was cut where it was damaged: its marker is
    there, and what it lost is far more than the last second."""
    old, recent = bench.chunk(2)
    Run(bench.service)([old, recent])
    bench.change([old], finishedAt=bench.ago(hours=1))
    sweep(bench)
    redis = bench.connections.redis
    marker = redis.get(MARKER_KEY)
    redis.delete(bench.settings.events_stream)
    value = {"older": milliseconds(bench.ago(hours=2)), "gone": None, "unreadable": "soon", "absurd": "9" * 20}[pulse]
    if value is None:
        redis.delete(PULSE_KEY)
    else:
        redis.set(PULSE_KEY, value)
    assert sweep(bench).replayed == 2
    assert set(event_ids(bench)) == events_of([old, recent])
    assert redis.get(MARKER_KEY) != marker
    assert sweep(bench).replayed == 0


def test_redis_that_restarts_within_a_sweep_gets_no_pulse_of_it(bench: Bench, valkey: Child) -> None:
    """The new process may have lost what the former one had at the beginning; a fresh pulse would hide that."""
    sweep(bench)
    before = bench.connections.redis.get(PULSE_KEY)
    bench.service.clock = _RestartingClock(bench.service.clock, valkey.restart)  # type: ignore[assignment]
    with pytest.raises(BrokerUnavailable):
        Replay(bench.service)()
    bench.connections.redis.connection_pool.disconnect()
    assert bench.connections.redis.get(PULSE_KEY) == before


@dataclass
class _RestartingClock:
    """A clock that restarts Redis when it is first read, which a replay does after it has read Redis."""

    clock: Clock
    restart: Callable[[], None]
    read: bool = False

    def now(self) -> datetime:
        if not self.read:
            self.read = True
            self.restart()
        return self.clock.now()


def test_event_emitted_late_is_replayed_after_a_restart(bench: Bench, valkey: Child) -> None:
    sweep(bench)
    keys = decided_without_event(bench)
    bench.change(keys, finishedAt=bench.ago(minutes=30))
    assert sweep(bench).emitted == 3
    valkey.restart()
    bench.connections.redis.connection_pool.disconnect()
    assert sweep(bench).replayed == 3
