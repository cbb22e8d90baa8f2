"""What becomes of the requests of a run, decided without any I/O."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from bson import ObjectId
from hypothesis import given
from hypothesis import strategies as st

from worker.domain.assembly import Conversation, Snapshot, encode_messages
from worker.domain.ledger_entry import LedgerEntry
from worker.errors import (
    ContactNotFound,
    ConversationNotFound,
    DeadlineExceeded,
    EarlierClosingUndecided,
    MessagesNotFound,
    PolicyUnreadable,
    SnapshotError,
    SnapshotTooLarge,
    StoreConflict,
    TransientError,
)
from worker.runs.plan import Plan, Previous, Unchanged, plan, plan_after_error, plan_untried
from worker.settings import load

NOW = datetime(2026, 5, 18, 14, 30, tzinfo=UTC)
SETTINGS = load(retry_attempts=3, retry_floor=timedelta(seconds=1), parent_wait=timedelta(seconds=60))
Found = Conversation | SnapshotError


def entry(**fields: Any) -> LedgerEntry:
    document = {
        "_id": ObjectId(),
        "organizationId": ObjectId(),
        "contactId": ObjectId(),
        "requestId": "mine",
        "trigger": "api",
        "status": "accepted",
        "round": 0,
        "acceptedAt": NOW - timedelta(seconds=1),
        **fields,
    }
    return cast("LedgerEntry", document)


def conversation(*texts: str) -> Conversation:
    messages = [{"_id": ObjectId(bytes(12)), "content": text, "timestamp": NOW, "sender": "user"} for text in texts]
    return Conversation({"firstName": "Priya"}, encode_messages(messages))


def decisions(planned: Plan) -> dict[ObjectId, str]:
    """Returns what is planned for each request. Fails if one has two decisions."""
    named = [(each.entry["_id"], "snapshot") for each in planned.snapshots]
    named += [(each.entry["_id"], each.error.code) for each in planned.failures]
    for name, postponements in (("retry", planned.retries), ("waiting", planned.waiting)):
        named += [(one["_id"], name) for each in postponements for one in each.entries]
    assert len({key for key, _ in named}) == len(named)
    return dict(named)


LONG_AGO = NOW - timedelta(seconds=61)
TABLE: list[tuple[dict[str, Any], Found, str]] = [
    ({}, conversation("Hello"), "snapshot"),
    ({}, conversation(), "empty_conversation"),
    ({}, MessagesNotFound(), "messages_not_found"),
    ({}, SnapshotTooLarge(), "snapshot_too_large"),
    ({}, ContactNotFound(), "retry"),
    ({}, ConversationNotFound(), "retry"),
    ({"attempts": 99, "awaited": 99}, ContactNotFound(), "retry"),
    ({"acceptedAt": LONG_AGO}, ContactNotFound(), "contact_not_found"),
    ({"acceptedAt": LONG_AGO}, ConversationNotFound(), "conversation_not_found"),
    ({"acceptedAt": LONG_AGO, "redrivenAt": NOW}, ContactNotFound(), "retry"),
    ({"acceptedAt": LONG_AGO, "dueAt": NOW}, ContactNotFound(), "retry"),
    ({}, EarlierClosingUndecided(), "waiting"),
    ({}, PolicyUnreadable(), "retry"),
    ({"attempts": 2}, PolicyUnreadable(), "retries_exhausted"),
]


@pytest.mark.parametrize(("fields", "found", "decision"), TABLE)
def test_request_is_decided_by_what_was_fetched(fields: dict[str, Any], found: Found, decision: str) -> None:
    one = entry(**fields)
    assert decisions(plan([(one, found)], {}, NOW, SETTINGS)) == {one["_id"]: decision}


@given(st.lists(st.sampled_from(TABLE), max_size=20))
def test_each_request_has_exactly_one_decision_whatever_the_others_are(rows: list[Any]) -> None:
    fetched = [(entry(**fields), found) for fields, found, _ in rows]
    expected = {one["_id"]: decision for (one, _), (_, _, decision) in zip(fetched, rows, strict=True)}
    planned = plan(fetched, {}, NOW, SETTINGS)
    assert decisions(planned) == expected
    assert len(planned.waiting) <= 1


def test_missing_contact_is_postponed_with_the_reason_it_would_fail_with() -> None:
    (retry,) = plan([(entry(), ContactNotFound(contactId="c"))], {}, NOW, SETTINGS).retries
    assert retry.error.code == "parent_not_yet_there"
    assert retry.error.details == {"awaited": "contact_not_found", "contactId": "c"}
    assert retry.delay >= SETTINGS.retry_floor


def test_snapshot_refers_to_the_previous_one_and_equal_messages_make_none() -> None:
    first, second = entry(), entry()
    (made,) = plan([(first, conversation("Hello"))], {}, NOW, SETTINGS).snapshots
    assert isinstance(made.snapshot, Snapshot)
    previous = {second["_id"]: Previous(first["_id"], made.snapshot.content_hash)}
    (unchanged,) = plan([(second, conversation("Hello"))], previous, NOW, SETTINGS).snapshots
    assert unchanged.snapshot == Unchanged(first["_id"], 1)
    (changed,) = plan([(second, conversation("Hello", "Bye"))], previous, NOW, SETTINGS).snapshots
    assert isinstance(changed.snapshot, Snapshot)
    assert changed.snapshot.document["supersedes"] == first["_id"]


@given(st.integers(1, 300), st.data())
def test_error_of_a_chunk_isolates_the_request_at_fault_and_charges_no_other(count: int, data: st.DataObject) -> None:
    chunk: Sequence[LedgerEntry] = [entry() for _ in range(count)]
    culprit = data.draw(st.sampled_from(chunk))
    for _ in range(count.bit_length() + 1):
        planned = plan_after_error(chunk, StoreConflict(), SETTINGS)
        assert set(decisions(planned)) == {one["_id"] for one in chunk}
        if planned.retries:
            break
        chunk = next(each.entries for each in planned.waiting if culprit in each.entries)
    (retry,) = planned.retries
    assert list(retry.entries) == [culprit]


@pytest.mark.parametrize(("attempts", "decision"), [(0, "retry"), (1, "retry"), (2, "retries_exhausted")])
def test_attempts_of_a_request_alone_are_limited(attempts: int, decision: str) -> None:
    one = entry(attempts=attempts)
    assert decisions(plan_after_error([one], DeadlineExceeded(), SETTINGS)) == {one["_id"]: decision}


@pytest.mark.parametrize("postpone", [plan_after_error, plan_untried])
def test_nothing_left_needs_no_decision(
    postpone: Callable[[Sequence[LedgerEntry], TransientError, Any], Plan],
) -> None:
    assert postpone([], StoreConflict(), SETTINGS) == Plan()


def test_requests_that_were_not_tried_stay_together_and_are_not_charged() -> None:
    chunk = [entry(), entry()]
    (postponement,) = plan_untried(chunk, DeadlineExceeded(), SETTINGS).waiting
    assert list(postponement.entries) == chunk
    assert postponement.delay == SETTINGS.retry_floor
