"""Conversations beyond MongoDB's limits: they fail alone, and quickly."""

import time
from datetime import timedelta
from typing import Any

import pytest
from bson import ObjectId

from support.fetching import fetched
from support.ledger import START, Bench
from support.waiting import allowed
from worker.domain.assembly import Conversation
from worker.errors import SnapshotTooLarge
from worker.runs.run import Run
from worker.source.single import measure

pytestmark = pytest.mark.usefixtures("indexed")


def test_conversation_over_16_mib_fails_alone_and_its_chunk_completes(bench: Bench) -> None:
    contact = bench.contact()
    large = bench.conversation(contact, 0)
    text = "日" * 1_000_000
    for number in range(6):
        bench.database.messages.insert_one(bench.message(number, content=text, contactId=contact, conversationId=large))
    small = [bench.conversation(contact, 2) for _ in range(3)]
    ids = bench.database.messages.distinct("_id", {"conversationId": large})
    keys = bench.accepted(
        *(bench.asked(contact, conversationId=each) for each in (small[0], large, *small[1:])),
        bench.asked(contact),
        bench.asked(contact, messageIds=ids),
    )
    outcome = Run(bench.service)(keys)
    assert (outcome.completed, outcome.failed, outcome.postponed) == (3, 3, [])
    failed = {each["_id"] for each in bench.entries(keys) if each["status"] == "failed"}
    assert failed == {keys[1], keys[4], keys[5]}
    assert {each["error"]["code"] for each in bench.entries(list(failed))} == {"snapshot_too_large"}
    assert set(bench.snapshots()) == set(keys) - failed


def test_conversation_beyond_the_servers_memory_is_too_large(bench: Bench) -> None:
    contact = bench.contact()
    huge = bench.conversation(contact, 0)
    for number in range(8):
        bench.database.messages.insert_one(
            bench.message(number, content="a" * 15_000_000, contactId=contact, conversationId=huge)
        )
    (key,) = bench.accepted(bench.asked(contact, conversationId=huge))
    assert isinstance(fetched(bench, key)[key], SnapshotTooLarge)


def test_large_conversations_that_together_exceed_the_servers_memory_are_read(bench: Bench) -> None:
    contact = bench.contact()
    conversations = [bench.conversation(contact, 0) for _ in range(9)]
    for conversation in conversations:
        bench.database.messages.insert_one(
            bench.message(0, content="a" * 14_000_000, contactId=contact, conversationId=conversation)
        )
    keys = bench.accepted(*(bench.asked(contact, conversationId=each) for each in conversations))
    found = fetched(bench, *keys)
    assert [isinstance(each, Conversation) for each in found.values()] == [True] * 9


def test_named_messages_are_too_large_before_all_are_read(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Named messages are bounded by what they take in a snapshot at least, not by their text."""
    monkeypatch.setattr("worker.source.single.LARGEST", 80 * 100)
    contact = bench.contact()
    made = [bench.message(number, contactId=contact, content="") for number in range(120)]
    bench.database.messages.insert_many(made)
    (key,) = bench.accepted(bench.asked(contact, messageIds=[each["_id"] for each in made]))
    assert isinstance(fetched(bench, key)[key], SnapshotTooLarge)


def short_messages(bench: Bench, count: int, **fields: Any) -> None:
    for first in range(0, count, 20_000):
        bench.database.messages.insert_many(
            {"organizationId": bench.organization, "content": "ok", "direction": "inbound", **fields}
            | {"createdAt": START + timedelta(seconds=number)}
            for number in range(first, min(first + 20_000, count))
        )


@pytest.mark.timeout(180)
def test_very_many_short_messages_fail_in_the_first_run_and_leave_the_chunk_alone(bench: Bench) -> None:
    """145,000 messages of 2 characters take 17 MB in a snapshot, and 210,000 are too many whatever is in them."""
    contact = bench.contact()
    many, more = bench.conversation(contact, 0), bench.conversation(contact, 0)
    short_messages(bench, 145_000, contactId=contact, conversationId=many)
    short_messages(bench, 210_000, contactId=ObjectId(), conversationId=more)
    small = [bench.conversation(contact, 2) for _ in range(3)]
    keys = bench.accepted(*(bench.asked(contact, conversationId=each) for each in (small[0], many, more, *small[1:])))
    patient = bench.another(run_deadline=timedelta(seconds=60))
    try:
        began = time.monotonic()
        result = Run(patient.service)(keys)
        took = time.monotonic() - began
    finally:
        patient.connections.close()
    assert (result.completed, result.failed, result.postponed) == (3, 2, [])
    assert [bench.entry(key)["error"]["code"] for key in keys[1:3]] == ["snapshot_too_large"] * 2
    assert took < allowed(40), "the worker must not read them"


def test_size_of_regular_messages_is_measured_exactly(bench: Bench) -> None:
    contact = bench.contact()
    for count in (1, 9, 10, 11, 100, 101, 1234):
        conversation = bench.conversation(contact, count)
        (key,) = bench.accepted(bench.asked(contact, conversationId=conversation))
        found = fetched(bench, key)[key]
        assert isinstance(found, Conversation)
        assert found.messages is not None
        array_frame = 5
        assert measure(bench.connections, {"conversationId": conversation}) + array_frame == len(found.messages.encoded)
    assert measure(bench.connections, {"conversationId": ObjectId()}) == 0


def test_read_of_a_chunk_that_takes_too_long_is_replaced_by_smaller_ones(bench: Bench) -> None:
    contact = bench.contact()
    keys = bench.accepted(*(bench.asked(contact, conversationId=bench.conversation(contact, 3)) for _ in range(4)))
    hasty = bench.another(run_deadline=timedelta(microseconds=3))  # a read in bulk may take a third of it
    try:
        found = fetched(hasty, *keys)
    finally:
        hasty.connections.close()
    counts = [each.messages.count for each in found.values() if isinstance(each, Conversation) and each.messages]
    assert counts == [3] * 4
