"""Runs that come again: retries, parents that come late, and requests that kill their worker."""

import contextlib
import json
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pymongo
import pytest
from bson import ObjectId

from support.faults import failing
from support.ledger import Bench, bench_on
from worker.errors import StoreConflict, StoreUnavailable
from worker.runs.commit import Outcome
from worker.runs.run import Run
from worker.settings import Settings
from worker.stores.connections import store_errors


def run(bench: Bench, keys: Sequence[ObjectId], **how: Any) -> Outcome:
    return Run(bench.service)(list(keys), **how)


# --- tried again -----------------------------------------------------------------------------------------------------


def test_store_that_is_down_is_told_to_the_caller_and_nothing_is_decided(
    bench: Bench, mongo_client: pymongo.MongoClient[Any]
) -> None:
    keys = bench.chunk(2)
    hasty = bench.another(run_deadline=timedelta(seconds=1))
    hasty.service.clock.now()
    try:
        down = failing(mongo_client, ["find", "aggregate", "update"], closeConnection=True)
        with down, pytest.raises(StoreUnavailable):
            run(hasty, keys)
    finally:
        hasty.connections.close()
    assert {each["status"] for each in bench.entries(keys)} == {"accepted"}


def test_chunk_that_exceeds_its_deadline_is_halved_until_one_stands_alone_and_counts(
    bench: Bench, mongo_client: pymongo.MongoClient[Any]
) -> None:
    keys = bench.chunk(3)
    hasty = bench.another(retry_attempts=2)
    hasty.service.clock.now()
    try:
        with failing(mongo_client, ["aggregate"], errorCode=50):
            first = run(hasty, keys)
            assert sorted(len(each.ids) for each in first.postponed) == [1, 2]
            assert [each.get("attempts", 0) for each in bench.entries(keys)] == [0, 0, 0]
            (alone,) = run(hasty, keys[:1]).postponed
            assert alone.delay >= bench.settings.retry_floor
            assert bench.entry(keys[0])["attempts"] == 1
            assert bench.entry(keys[0])["lastError"]["code"] == "store_conflict"
            assert run(hasty, keys[:1]).failed == 1
    finally:
        hasty.connections.close()
    failed = bench.entry(keys[0])
    assert failed["error"]["code"] == "retries_exhausted"
    assert failed["error"]["details"]["attempts"] == 2


def test_read_that_is_slower_than_the_deadline_is_postponed_not_repeated_for_ever(
    bench: Bench, mongo_client: pymongo.MongoClient[Any]
) -> None:
    (key,) = bench.chunk(1)
    hasty = bench.another(run_deadline=timedelta(seconds=2))
    hasty.service.clock.now()
    slow = hasty.service.conversations.fetch

    def fetch_slowly(entries: Any) -> Any:
        with store_errors():
            hasty.database.contacts.find_one({"$where": "sleep(6000) || true"})
        return slow(entries)

    hasty.service.conversations.fetch = fetch_slowly  # type: ignore[method-assign]
    try:
        (postponed,) = run(hasty, [key]).postponed
    finally:
        hasty.connections.close()
    assert postponed.ids == [str(key)]
    assert postponed.error.code in ("deadline_exceeded", "store_conflict")
    assert bench.entry(key)["attempts"] == 1


def test_unforeseen_error_is_postponed_and_isolates_the_request_at_fault(bench: Bench) -> None:
    keys = bench.chunk(4)
    fetch = bench.service.conversations.fetch

    def break_on(entries: Any) -> Any:
        for entry, found in fetch(entries):
            if entry["_id"] == keys[2]:
                raise ZeroDivisionError("Priya's message")
            yield entry, found

    bench.service.conversations.fetch = break_on  # type: ignore[method-assign]
    waiting = [keys]
    for _ in range(40):
        if not waiting:
            break
        outcome = run(bench, waiting.pop(0))
        waiting += [[ObjectId(key) for key in each.ids] for each in outcome.postponed]
    assert [each["status"] for each in bench.entries(keys)] == ["completed", "completed", "failed", "completed"]
    error = bench.entry(keys[2])["error"]
    assert error["code"] == "retries_exhausted"
    assert "Priya" not in json.dumps(error)


# --- parents that come late --------------------------------------------------------------------------------------


def test_request_ahead_of_its_contact_completes_once_it_is_there(bench: Bench) -> None:
    contact = ObjectId()
    (key,) = bench.accepted(bench.asked(contact))
    (postponed,) = run(bench, [key]).postponed
    assert postponed.ids == [str(key)]
    assert postponed.error.code == "parent_not_yet_there"
    assert bench.entry(key)["lastError"]["details"]["awaited"] == "contact_not_found"
    bench.contact(_id=contact)
    bench.conversation(contact, 1)
    assert run(bench, [key]).completed == 1


@pytest.mark.parametrize(
    ("code", "asked"),
    [
        ("contact_not_found", lambda bench: bench.asked(ObjectId())),
        ("conversation_not_found", lambda bench: bench.asked(bench.contact(), conversationId=ObjectId())),
    ],
)
def test_parent_that_never_comes_fails_the_request_after_its_time(
    bench: Bench, code: str, asked: Callable[[Bench], Any]
) -> None:
    (key,) = bench.accepted(asked(bench))
    assert len(run(bench, [key]).postponed) == 1
    bench.change([key], acceptedAt=bench.ago(seconds=61))
    assert run(bench, [key]).failed == 1
    assert bench.entry(key)["error"]["code"] == code


def test_redriven_request_waits_for_its_parent_anew(bench: Bench) -> None:
    (key,) = bench.accepted(bench.asked(ObjectId()))
    bench.change([key], acceptedAt=bench.ago(minutes=5))
    assert run(bench, [key]).failed == 1
    bench.service.redrive([key])
    assert len(run(bench, [key]).postponed) == 1


# --- who may have killed a worker -----------------------------------------------------------------------------------


class Killed(BaseException):
    """As SIGKILL: nothing of the run comes after it."""


def run_and_die(bench: Bench, keys: Sequence[ObjectId], poison: ObjectId) -> None:
    """A repeated delivery of a chunk that ends the worker when it comes to the request `poison`."""
    process = bench.another()
    fetch = process.service.conversations.fetch

    def fetch_and_die(entries: Any) -> Any:
        entries = list(entries)
        if any(entry["_id"] == poison for entry in entries):
            raise Killed
        return fetch(entries)

    process.service.conversations.fetch = fetch_and_die  # type: ignore[method-assign]
    killed = Run(process.service)
    killed.end_counted = lambda: None  # type: ignore[method-assign]
    ended = Run.end_counted
    try:
        killed(list(keys), redelivered=True)
    except Killed:
        return
    finally:
        process.connections.close()
    ended(killed)


def test_repeated_delivery_counts_up_and_back_down(bench: Bench) -> None:
    contact = ObjectId()
    (key,) = bench.accepted(bench.asked(contact))
    during: list[int] = []
    fetch = bench.service.conversations.fetch

    def look(entries: Any) -> Any:
        during.append(bench.entry(key).get("unended", 0))
        return fetch(entries)

    bench.service.conversations.fetch = look  # type: ignore[method-assign]
    run(bench, [key])
    run(bench, [key], redelivered=True)
    bench.change([key], swept=1)
    run(bench, [key])
    assert during == [0, 1, 1]
    assert bench.entry(key)["unended"] == 0


def test_count_is_taken_back_also_where_it_was_not_known_to_be_made(
    bench: Bench, mongo_client: pymongo.MongoClient[Any]
) -> None:
    """Majority stalls, or an answer is lost: the write is there all the same, and no process has died."""
    keys = bench.chunk(3)
    bench.change(keys, swept=1)
    stalled = {"code": 64, "codeName": "WriteConcernFailed", "errmsg": "waiting for replication timed out"}
    for _ in range(6):
        stall = failing(mongo_client, ["update"], {"times": 1}, writeConcernError=stalled)
        with stall, contextlib.suppress(StoreConflict):
            run(bench, keys)
        assert [each.get("unended", 0) for each in bench.entries(keys)] == [0, 0, 0]
        assert not any(each.get("unendedRuns") for each in bench.entries(keys))
        bench.change(keys, status="accepted")
    assert bench.entries(keys)[0].get("error") is None


def test_suspects_whose_turn_does_not_come_are_handed_back_and_what_others_met_is_kept(bench: Bench) -> None:
    """Those before them used up the message's time."""
    slow, *suspects = bench.chunk(4)  # slow, and just done in time
    bench.change(suspects[1:], unended=1)
    bench.change(suspects[:1], swept=1)
    hasty = bench.another(run_deadline=timedelta(seconds=1))
    hasty.service.clock.now()
    fetch = hasty.service.conversations.fetch

    def use_up(entries: Any) -> Any:
        while not hasty_run._is_over():
            time.sleep(0.02)
        return fetch(entries)

    hasty.service.conversations.fetch = use_up  # type: ignore[method-assign]
    hasty_run = Run(hasty.service)
    try:
        outcome = hasty_run([slow, *suspects])
    finally:
        hasty.connections.close()
    postponed = [key for each in outcome.postponed for key in each.ids]
    assert outcome.completed + len(postponed) == 4
    assert {str(key) for key in suspects} <= set(postponed)
    assert [each.get("unended", 0) for each in bench.entries(suspects)] == [0, 1, 1]
    assert [each.get("attempts", 0) for each in bench.entries(suspects)] == [0, 0, 0]


def test_count_is_taken_back_after_an_exception(bench: Bench) -> None:
    (key,) = bench.chunk(1)

    def breaks(_: Any) -> Any:
        raise StoreUnavailable

    bench.service.conversations.fetch = breaks  # type: ignore[method-assign,assignment]
    with pytest.raises(StoreUnavailable):
        run(bench, [key], redelivered=True)
    assert bench.entry(key)["unended"] == 0


def test_request_that_kills_its_worker_is_lost_after_five_deliveries_and_takes_no_neighbour(bench: Bench) -> None:
    keys = bench.chunk(4)
    poison = keys[1]
    deliveries = 0
    while bench.entry(poison)["status"] == "accepted":
        run_and_die(bench, keys, poison)
        deliveries += 1
        assert deliveries <= 7
    run_and_die(bench, keys, ObjectId())
    assert bench.entry(poison)["error"] == {
        "code": "worker_lost",
        "message": "The request ended its worker process several times.",
        "details": {"deliveries": 5},
    }
    neighbours = [key for key in keys if key != poison]
    assert {each["status"] for each in bench.entries(neighbours)} == {"completed"}
    assert set(bench.snapshots()) == set(neighbours)
    assert {each["id"] for each in bench.events()} == {f"{key}.0" for key in keys}


def test_fewest_deliveries_that_can_be_set_still_spare_the_neighbours(settings: Settings) -> None:
    with bench_on(settings.model_copy(update={"worker_lost_after": 3})) as bench:
        keys = bench.chunk(3)
        for _ in range(5):
            run_and_die(bench, keys, keys[0])
        run_and_die(bench, keys, ObjectId())
        assert [each["status"] for each in bench.entries(keys)] == ["failed", "completed", "completed"]
