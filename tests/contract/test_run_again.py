"""Requests that a run postpones: retries, halving, and parents that are not there yet."""

import json
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pymongo
import pytest
from bson import ObjectId
from celery.exceptions import SoftTimeLimitExceeded

from support.faults import failing
from support.ledger import Bench
from worker import celery  # noqa: F401 - registers Celery's soft time limit as a TaskInterrupt
from worker.errors import StoreUnavailable
from worker.runs.commit import RunResult
from worker.runs.run import Run
from worker.stores.connections import store_errors


def run(bench: Bench, keys: Sequence[ObjectId], **how: Any) -> RunResult:
    return Run(bench.service)(list(keys), **how)


# --- retries -----------------------------------------------------------------------------------------------------


def test_unreachable_store_is_raised_and_nothing_is_decided(
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


def test_chunk_that_fails_is_halved_until_one_request_is_alone_and_counts_attempts(
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


def test_read_that_is_slower_than_the_deadline_is_postponed(
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


def test_unexpected_error_of_one_request_is_postponed_and_holds_up_no_other(bench: Bench) -> None:
    keys = bench.chunk(4)
    patient = bench.another(run_deadline=timedelta(minutes=2))
    fetch = patient.service.conversations.fetch

    def break_on(entries: Any) -> Any:
        for entry, found in fetch(entries):
            if entry["_id"] == keys[2]:
                raise ZeroDivisionError("Priya's message")
            yield entry, found

    patient.service.conversations.fetch = break_on  # type: ignore[method-assign]
    first = run(patient, keys)
    assert first.completed == 3
    assert [each.ids for each in first.postponed] == [[str(keys[2])]]
    waiting = [[keys[2]]]
    for _ in range(40):
        if not waiting:
            break
        outcome = run(patient, waiting.pop(0))
        waiting += [[ObjectId(key) for key in each.ids] for each in outcome.postponed]
    patient.connections.close()
    assert [each["status"] for each in bench.entries(keys)] == ["completed", "completed", "failed", "completed"]
    error = bench.entry(keys[2])["error"]
    assert error["code"] == "retries_exhausted"
    assert "Priya" not in json.dumps(error)


def test_soft_time_limit_ends_the_attempt_and_is_not_an_unexpected_error(bench: Bench) -> None:
    keys = bench.chunk(3)

    def interrupted(_: Any) -> Any:
        raise SoftTimeLimitExceeded(28)

    bench.service.conversations.fetch = interrupted  # type: ignore[method-assign,assignment]
    assert sorted(len(each.ids) for each in run(bench, keys).postponed) == [1, 2]
    assert [each.get("attempts", 0) for each in bench.entries(keys)] == [0, 0, 0]
    (alone,) = run(bench, keys[:1]).postponed
    assert alone.error.code == "deadline_exceeded"
    entry = bench.entry(keys[0])
    assert (entry["status"], entry["attempts"], entry["lastError"]["code"]) == ("accepted", 1, "deadline_exceeded")


# --- parents that are not there yet ----------------------------------------


def test_request_completes_once_its_contact_is_there(bench: Bench) -> None:
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
def test_parent_that_stays_missing_fails_the_request_after_the_parent_wait(
    bench: Bench, code: str, asked: Callable[[Bench], Any]
) -> None:
    (key,) = bench.accepted(asked(bench))
    assert len(run(bench, [key]).postponed) == 1
    bench.change([key], acceptedAt=bench.ago(seconds=61))
    assert run(bench, [key]).failed == 1
    assert bench.entry(key)["error"]["code"] == code


def test_redriven_request_waits_for_its_parent_again(bench: Bench) -> None:
    (key,) = bench.accepted(bench.asked(ObjectId()))
    bench.change([key], acceptedAt=bench.ago(minutes=5))
    assert run(bench, [key]).failed == 1
    bench.service.redrive([key])
    assert len(run(bench, [key]).postponed) == 1
