"""A run decides each request once, whichever other runs there are and whatever fails in between."""

import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pymongo
import pytest
from bson import ObjectId

from support.faults import failing
from support.ledger import Bench
from worker.errors import BrokerUnavailable, StoreUnavailable
from worker.runs.commit import RunResult
from worker.runs.run import Run


@pytest.fixture
def other(bench: Bench) -> Iterator[Bench]:
    """Stands for another process on the same data."""
    made = bench.another()
    yield made
    made.connections.close()


def run(bench: Bench, keys: Sequence[ObjectId], **how: Any) -> RunResult:
    return Run(bench.service)(list(keys), **how)


def assert_one_outcome_each(bench: Bench, keys: Sequence[ObjectId]) -> None:
    """Checks that each request has one snapshot and one event, and that repeats of the event are equal."""
    assert {each["status"] for each in bench.entries(keys)} == {"completed"}
    assert set(bench.snapshots()) == set(keys)
    events = bench.events()
    assert {each["id"] for each in events} == {f"{key}.0" for key in keys}
    assert len({json.dumps(each) for each in events}) == len(keys)
    assert not any(each.get("unsent") for each in bench.entries(keys))


# --- the straight line ------------------------------------------------------------------------------------------


def test_chunk_becomes_snapshots_and_events(bench: Bench) -> None:
    keys = bench.chunk(50)
    outcome = run(bench, keys)
    assert (outcome.completed, outcome.failed, outcome.postponed) == (50, 0, [])
    assert_one_outcome_each(bench, keys)
    assert len(bench.events()) == 50


def test_bad_requests_fail_alone_in_their_chunk(bench: Bench) -> None:
    contact = bench.contact()
    bench.conversation(contact, 2)
    good = bench.accepted(*(bench.asked(contact) for _ in range(3)))
    bad = {
        "contact_not_found": bench.asked(ObjectId()),
        "conversation_not_found": bench.asked(contact, conversationId=ObjectId()),
        "messages_not_found": bench.asked(contact, messageIds=[ObjectId()]),
        "empty_conversation": bench.asked(contact, conversationId=bench.conversation(contact, 0)),
    }
    failed = bench.accepted(*bad.values())
    bench.change(failed, acceptedAt=bench.ago(minutes=2))
    outcome = run(bench, [*failed, *good])
    assert (outcome.completed, outcome.failed, outcome.postponed) == (3, 4, [])
    assert [bench.entry(key)["error"]["code"] for key in failed] == list(bad)
    assert set(bench.snapshots()) == set(good)
    assert {each["id"]: each["type"].rpartition(".")[2] for each in bench.events()} == {
        **{f"{key}.0": "failed" for key in failed},
        **{f"{key}.0": "completed" for key in good},
    }


def test_snapshot_has_the_id_of_its_request_and_its_labels(bench: Bench) -> None:
    contact = bench.contact(lastName="Holloway", phoneNumber="+15550100")
    bench.conversation(contact, 2)
    user = ObjectId()
    (key,) = bench.accepted(bench.asked(contact, "mine", notes="n", tags=["t"], quality="good", userId=user))
    run(bench, [key])
    snapshot = bench.snapshots()[key]
    assert {name: snapshot[name] for name in ("requestId", "notes", "tags", "quality", "category", "userId")} == {
        "requestId": "mine",
        "notes": "n",
        "tags": ["t"],
        "quality": "good",
        "category": None,
        "userId": user,
    }
    assert snapshot["customerName"] == "Priya Holloway"
    assert [each["content"] for each in snapshot["messages"]] == ["Hello 0", "Hello 1"]


def test_unknown_and_repeated_ids_in_a_message_are_ignored(bench: Bench) -> None:
    (key,) = bench.chunk(1)
    outcome = run(bench, [key, ObjectId(), key])
    assert outcome.completed == 1
    assert_one_outcome_each(bench, [key])


def test_irregular_messages_make_a_snapshot_in_the_same_chunk_as_regular_ones(bench: Bench) -> None:
    contact = bench.contact(firstName=None)
    odd = bench.conversation(contact, 0)
    ids = {"contactId": contact, "conversationId": odd}
    bench.database.messages.insert_many(
        [
            bench.message(0, **ids, content=None, direction=["inbound"]),
            bench.message(1, **ids, content={"type": "image"}, createdAt="2026-05-13T13:00:01Z"),
        ]
    )
    keys = bench.accepted(
        bench.asked(contact, conversationId=odd), bench.asked(contact, conversationId=bench.conversation(contact, 2))
    )
    assert run(bench, keys).completed == 2
    snapshot = bench.snapshots()[keys[0]]
    assert [each["content"] for each in snapshot["messages"]] == ["", '{"type": "image"}']
    assert snapshot["customerName"] == ""


# --- concurrent runs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attempt", range(3))
def test_two_runs_of_one_chunk_at_once_make_one_snapshot_each(bench: Bench, other: Bench, attempt: int) -> None:
    keys = bench.chunk(40 + attempt)
    together = Barrier(2)

    def start(which: Bench) -> RunResult:
        together.wait(10)
        return run(which, keys)

    with ThreadPoolExecutor(2) as runs:
        outcomes = list(runs.map(start, [bench, other]))
    assert [each.postponed for each in outcomes] == [[], []]
    assert sum(each.completed for each in outcomes) == len(keys)
    assert_one_outcome_each(bench, keys)


def test_chunk_is_loaded_again_after_another_run_decided_part_of_it(bench: Bench, other: Bench) -> None:
    keys = bench.chunk(6)
    fetch = bench.service.conversations.fetch

    def fetch_late(entries: Any) -> Any:
        run(other, keys[:2])
        return fetch(entries)

    bench.service.conversations.fetch = fetch_late  # type: ignore[method-assign]
    outcome = run(bench, keys)
    assert (outcome.completed, outcome.postponed) == (4, [])
    assert_one_outcome_each(bench, keys)


def test_run_of_an_earlier_round_decides_nothing(bench: Bench, other: Bench) -> None:
    contact = bench.contact()
    (key,) = bench.accepted(bench.asked(contact))
    fetch = bench.service.conversations.fetch

    def fetch_late(entries: Any) -> Any:
        loaded = list(fetch(entries))
        run(other, [key])
        other.service.redrive([key])
        return iter(loaded)

    bench.service.conversations.fetch = fetch_late  # type: ignore[method-assign]
    outcome = run(bench, [key])
    assert (outcome.completed, outcome.failed, outcome.postponed) == (0, 0, [])
    assert (bench.entry(key)["status"], bench.entry(key)["round"]) == ("accepted", 1)
    assert [each["id"] for each in bench.events()] == [f"{key}.0"]


# --- faults during a run -----------------------------------------------------------------------------------------

FAULTS: dict[str, tuple[list[str], Any, dict[str, Any]]] = {
    "the transaction is aborted": (
        ["insert"],
        {"times": 1},
        {"errorCode": 112, "errorLabels": ["TransientTransactionError"]},
    ),
    "the commit is aborted": (
        ["commitTransaction"],
        {"times": 1},
        {"errorCode": 251, "errorLabels": ["TransientTransactionError"]},
    ),
    "the commit's answer is lost": (["commitTransaction"], {"times": 1}, {"closeConnection": True}),
    "the commit is not at majority": (
        ["commitTransaction"],
        {"times": 2},
        {"writeConcernError": {"code": 64, "codeName": "WriteConcernFailed", "errmsg": "timed out"}},
    ),
    "the primary steps down in the update": (["update"], {"times": 1}, {"errorCode": 189}),
    "the read breaks": (["aggregate"], {"times": 2}, {"closeConnection": True}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_request_is_decided_once_although(
    fault: str, bench: Bench, mongo_client: pymongo.MongoClient[Any]
) -> None:
    keys = bench.chunk(4)
    commands, mode, how = FAULTS[fault]
    with failing(mongo_client, commands, mode, **how):
        for _ in range(8):
            try:
                run(bench, keys)
            except StoreUnavailable:
                continue
            if all(each["status"] == "completed" for each in bench.entries(keys)):
                break
    run(bench, keys)
    assert_one_outcome_each(bench, keys)


def test_snapshot_can_be_read_before_its_event_is_seen(bench: Bench, other: Bench) -> None:
    keys = bench.chunk(3)
    emit = bench.service.events.emit
    readable: list[set[ObjectId]] = []

    def look_first(entries: Any) -> None:
        readable.append(set(other.snapshots()))
        emit(entries)

    bench.service.events.emit = look_first  # type: ignore[method-assign]
    run(bench, keys)
    assert readable == [set(keys)]


def test_run_that_failed_before_its_event_is_completed_by_the_next_with_the_same_event(bench: Bench) -> None:
    keys = bench.chunk(3)
    emit = bench.service.events.emit
    sent: list[Any] = []

    def die(entries: Iterable[Any]) -> None:
        sent.extend(entries)
        raise BrokerUnavailable

    bench.service.events.emit = die  # type: ignore[method-assign]
    assert run(bench, keys).completed == 3
    assert all(each["unsent"] for each in bench.entries(keys))
    assert bench.events() == []
    bench.service.events.emit = emit  # type: ignore[method-assign]
    run(bench, keys)
    assert_one_outcome_each(bench, keys)
    emit(sent)
    assert_one_outcome_each(bench, keys)
