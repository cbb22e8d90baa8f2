"""Requests that may have killed their worker: runs are recorded while they last, and the sweep finds the dead ones."""

import contextlib
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pymongo
import pytest
from bson import ObjectId

from support.faults import failing
from support.ledger import Bench, bench_on
from worker.errors import BrokerUnavailable, StoreConflict, StoreUnavailable
from worker.runs.run import Run
from worker.settings import Settings
from worker.stores.run_records import RunRecord
from worker.sweep.sweep import Sweep


class Killed(BaseException):
    """Stands for SIGKILL: the run ends at once."""


def records(bench: Bench) -> list[RunRecord]:
    return list(bench.service.run_records)


def run_and_die(bench: Bench, keys: Sequence[ObjectId], poison: ObjectId) -> None:
    """Runs a chunk in a process that dies when it reads for the request `poison`."""
    process = bench.another()
    fetch = process.service.conversations.fetch
    end = process.service.run_records.end

    def fetch_and_die(entries: Any) -> Any:
        entries = list(entries)
        if any(entry["_id"] == poison for entry in entries):
            process.service.run_records.end = lambda *_: None  # type: ignore[method-assign]
            raise Killed
        return fetch(entries)

    process.service.conversations.fetch = fetch_and_die  # type: ignore[method-assign]
    try:
        Run(process.service)(list(keys))
    except Killed:
        return
    finally:
        process.service.run_records.end = end  # type: ignore[method-assign]
        process.connections.close()


def sweep_later(
    bench: Bench, keys: Sequence[ObjectId], during: contextlib.AbstractContextManager[None] | None = None
) -> list[list[ObjectId]]:
    """Sweeps once the runs of now have exceeded their time; returns the requests of each message it publishes."""
    bench.change(keys, enqueuedAt=bench.ago(minutes=1))
    later = bench.another()
    try:
        later.advance(seconds=bench.settings.lost_after.total_seconds() + 1)
        with during or contextlib.nullcontext():
            Sweep(later.service)()
        return [[ObjectId(key) for key in chunk] for _, chunk in later.published.chunks]
    finally:
        later.connections.close()


def run_until_decided(bench: Bench, keys: Sequence[ObjectId], poison: ObjectId) -> int:
    """Delivers the chunk, and what sweeps publish after it, until all are decided; returns the number of sweeps."""
    run_and_die(bench, keys, poison)
    for sweeps in range(1, 10):
        for chunk in sweep_later(bench, keys):
            run_and_die(bench, chunk, poison)
        if all(entry["status"] != "accepted" for entry in bench.entries(keys)):
            return sweeps
    raise AssertionError("some requests have no outcome")


def test_run_is_recorded_while_it_lasts(bench: Bench) -> None:
    keys = bench.chunk(3)
    during: list[RunRecord] = []
    fetch = bench.service.conversations.fetch

    def look(entries: Any) -> Any:
        during.extend(records(bench))
        return fetch(entries)

    bench.service.conversations.fetch = look  # type: ignore[method-assign]
    assert Run(bench.service)(keys).completed == 3
    assert [sorted(record.keys) for record in during] == [sorted(keys)]
    assert records(bench) == []
    assert not any(entry.get("unended") for entry in bench.entries(keys))


def test_run_that_ends_with_an_exception_leaves_no_record(bench: Bench) -> None:
    keys = bench.chunk(1)

    def unreachable(_: Any) -> Any:
        raise StoreUnavailable

    bench.service.conversations.fetch = unreachable  # type: ignore[method-assign,assignment]
    with pytest.raises(StoreUnavailable):
        Run(bench.service)(keys)
    assert records(bench) == []


def test_requests_of_a_run_in_progress_are_not_enqueued_again(bench: Bench) -> None:
    keys = bench.chunk(2)
    run_and_die(bench, keys, keys[0])
    bench.change(keys, enqueuedAt=bench.ago(minutes=1))
    assert Sweep(bench.service)().re_enqueued == 0
    assert [sorted(record.keys) for record in records(bench)] == [sorted(keys)]


def test_requests_of_a_dead_run_are_counted_once_and_enqueued_again(bench: Bench) -> None:
    keys = bench.chunk(2)
    run_and_die(bench, keys, keys[0])
    assert [sorted(chunk) for chunk in sweep_later(bench, keys)] == [sorted(keys)]
    sweep_later(bench, keys)
    assert [entry["unended"] for entry in bench.entries(keys)] == [1, 1]
    assert records(bench) == []


def test_dead_run_is_counted_once_although_the_answer_is_not_known(
    bench: Bench, mongo_client: pymongo.MongoClient[Any]
) -> None:
    """The majority stalls while the run is counted: the write is there, and the next sweep repeats it."""
    keys = bench.chunk(3)
    run_and_die(bench, keys, keys[0])
    stalled = {"code": 64, "codeName": "WriteConcernFailed", "errmsg": "waiting for replication timed out"}
    with contextlib.suppress(StoreConflict):
        sweep_later(bench, keys, failing(mongo_client, ["update"], {"times": 1}, writeConcernError=stalled))
    sweep_later(bench, keys)
    assert [entry["unended"] for entry in bench.entries(keys)] == [1, 1, 1]
    assert records(bench) == []


def test_slow_run_that_was_taken_for_dead_takes_the_count_back(bench: Bench) -> None:
    keys = bench.accepted(bench.asked(ObjectId()))
    fetch = bench.service.conversations.fetch
    during: list[int] = []

    def sleep(entries: Any) -> Any:
        sweep_later(bench, keys)
        during.append(bench.entry(keys[0])["unended"])
        return fetch(entries)

    bench.service.conversations.fetch = sleep  # type: ignore[method-assign]
    assert len(Run(bench.service)(keys).postponed) == 1
    assert during == [1]
    assert bench.entry(keys[0])["unended"] == 0
    assert bench.entry(keys[0])["unendedRuns"] == []


def test_record_that_could_not_be_removed_is_removed_by_the_next_run(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis was away for a moment: the process is alive, and its requests are not to blame for anything."""
    first, second = bench.accepted(bench.asked(ObjectId())), bench.chunk(1)
    redis = bench.connections.redis

    def away(**_: Any) -> Any:
        raise BrokerUnavailable

    with monkeypatch.context() as broken:
        broken.setattr(redis, "pipeline", away)
        Run(bench.service)(first)
    assert len(records(bench)) == 1
    sweep_later(bench, first)
    assert bench.entry(first[0])["unended"] == 1
    Run(bench.service)(second)
    assert bench.entry(first[0])["unended"] == 0
    assert records(bench) == []


def test_fields_of_the_hash_that_are_not_ours_are_ignored(bench: Bench) -> None:
    bench.connections.redis.hset("snapshots:runs", mapping={"x": "y", b"123456789012": b"1234", "": ""})
    assert records(bench) == []


def test_without_redis_requests_are_run_and_not_recorded(bench: Bench) -> None:
    keys = bench.chunk(1)
    away = bench.another(redis_url="redis://127.0.0.1:1/0")
    try:
        assert Run(away.service)(keys).completed == 1
    finally:
        away.connections.close()


def test_suspects_that_a_run_has_no_time_for_are_postponed_uncharged(bench: Bench) -> None:
    slow, *suspects = bench.chunk(4)
    bench.change(suspects[1:], unended=2)
    bench.change(suspects[:1], unended=1)
    hasty = bench.another(run_deadline=timedelta(seconds=1))
    hasty.service.clock.now()
    fetch = hasty.service.conversations.fetch

    def use_up(entries: Any) -> Any:
        time.sleep(1)
        return fetch(entries)

    hasty.service.conversations.fetch = use_up  # type: ignore[method-assign]
    try:
        result = Run(hasty.service)([slow, *suspects])
    finally:
        hasty.connections.close()
    postponed = [key for each in result.postponed for key in each.ids]
    assert result.completed + len(postponed) == 4
    assert {str(key) for key in suspects} <= set(postponed)
    assert [entry.get("attempts", 0) for entry in bench.entries(suspects)] == [0, 0, 0]


def test_request_that_kills_its_worker_is_lost_after_five_runs_and_takes_no_other_with_it(bench: Bench) -> None:
    keys = bench.chunk(4)
    poison = keys[1]
    assert run_until_decided(bench, keys, poison) == 5
    assert bench.entry(poison)["error"] == {
        "code": "worker_lost",
        "message": "The request repeatedly crashed its worker process.",
        "details": {"deliveries": 5},
    }
    others = [key for key in keys if key != poison]
    assert {entry["status"] for entry in bench.entries(others)} == {"completed"}
    assert set(bench.snapshots()) == set(others)
    assert {each["id"] for each in bench.events()} == {f"{key}.0" for key in keys}


def test_lowest_limit_of_crashes_still_spares_the_other_requests(settings: Settings) -> None:
    with bench_on(settings.model_copy(update={"worker_lost_after": 3})) as bench:
        bench.service.clock.now()
        keys = bench.chunk(3)
        run_until_decided(bench, keys, keys[0])
        assert [entry["status"] for entry in bench.entries(keys)] == ["failed", "completed", "completed"]


def test_request_that_kills_its_worker_is_found_although_redis_lost_its_data(bench: Bench) -> None:
    """The record of the first run is lost; the next ones count."""
    keys = bench.chunk(3)
    run_and_die(bench, keys, keys[0])
    bench.connections.redis.delete("snapshots:runs")
    run_until_decided(bench, keys, keys[0])
    assert [entry["status"] for entry in bench.entries(keys)] == ["failed", "completed", "completed"]
