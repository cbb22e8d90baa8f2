"""The predicates on a ledger entry."""

from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from bson import ObjectId

from worker.domain.ledger_entry import (
    LedgerEntry,
    groups_by_suspicion,
    has_event,
    is_open,
    is_redrivable,
    is_stripped,
    is_unsent,
    waiting_since,
    with_fields,
)

ACCEPTED_AT = datetime(2026, 5, 18, 14, 30, tzinfo=UTC)
LATER = ACCEPTED_AT + timedelta(minutes=1)


def entry(**fields: Any) -> LedgerEntry:
    return cast("LedgerEntry", {"_id": ObjectId(), "status": "accepted", "acceptedAt": ACCEPTED_AT, **fields})


@pytest.mark.parametrize(
    ("fields", "redrivable"),
    [
        ({"status": "failed", "contactId": ObjectId()}, True),
        ({"status": "failed", "contactId": ObjectId(), "unsent": True}, False),
        ({"status": "failed"}, False),
        ({"status": "completed", "contactId": ObjectId()}, False),
        ({"status": "accepted", "contactId": ObjectId()}, False),
    ],
    ids=["failed and sent", "event not out", "stripped by retention", "completed", "in flight"],
)
def test_only_failed_sent_and_whole_entries_are_redrivable(fields: dict[str, Any], redrivable: bool) -> None:
    assert is_redrivable(entry(**fields)) is redrivable


@pytest.mark.parametrize(
    ("fields", "expected"),
    [({}, ACCEPTED_AT), ({"dueAt": LATER}, LATER), ({"dueAt": ACCEPTED_AT, "redrivenAt": LATER}, LATER)],
    ids=["accepted", "due", "redriven"],
)
def test_entry_waits_since_its_round_began(fields: dict[str, Any], expected: datetime) -> None:
    assert waiting_since(entry(**fields)) == expected


def test_entry_without_outcome_is_open_and_owes_no_event() -> None:
    assert is_open(entry())
    assert not is_unsent(entry())
    assert is_unsent(entry(status="failed", unsent=True))


def test_entry_has_an_event_from_its_outcome_until_retention_strips_it() -> None:
    stripped = cast("LedgerEntry", {"_id": ObjectId(), "status": "failed"})
    assert [has_event(each) for each in (entry(), entry(status="failed"), stripped)] == [False, True, False]
    assert [is_stripped(each) for each in (entry(), entry(status="failed"), stripped)] == [False, False, True]


def test_requests_whose_runs_did_not_end_run_apart_and_lost_messages_are_no_suspicion() -> None:
    entries = [
        entry(),
        entry(unended=3),
        entry(swept=9),
        entry(unended=1),
        entry(unended=2),
        entry(unended=1),
        entry(unended=0),
    ]
    one, thrice, lost, once, twice, once_too, ended = entries
    assert list(groups_by_suspicion(entries)) == [[one, lost, ended], [once, once_too], [twice], [thrice]]
    assert list(groups_by_suspicion([])) == []


def test_changed_copy_leaves_the_entry_as_it_was() -> None:
    first = entry()
    assert with_fields(first, round=1)["round"] == 1
    assert "round" not in first
