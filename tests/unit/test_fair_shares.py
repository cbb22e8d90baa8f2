"""Who is next when organizations wait."""

import json
import time

import pytest
from bson import ObjectId

from worker.domain.fair_shares import Allowance, smallest
from worker.intake.backlog import Backlog, organization_of
from worker.intake.stream import BATCH_BYTES, IntakeEntry

A, B, C = "6a" * 12, "6b" * 12, "6c" * 12


def entry(name: str, organization: str, size: int = 100) -> IntakeEntry:
    data = json.dumps({"organizationId": organization, "contactId": str(ObjectId())}).encode()
    return IntakeEntry(name, {b"type": b"snapshot.requested", b"data": data}, size, 2)


def backlog(*entries: IntakeEntry) -> Backlog:
    made = Backlog()
    made.add(entries)
    return made


@pytest.mark.parametrize(
    ("organizations", "found"),
    [("", ""), ("a", "a"), ("aaab", "b"), ("aaabbcc", "b"), ("aaaa", ""), ("aab", "ab"), ("aaabbb", "b")],
)
def test_organizations_with_the_fewest_requests_are_light(organizations: str, found: str) -> None:
    few = smallest(organizations, 3)
    assert len(few) == len(found)
    assert sum(organizations.count(each) for each in few) <= 3
    assert all(
        organizations.count(each) <= organizations.count(other) for each in few for other in set(organizations) - few
    )


def test_organizations_take_turns_and_keep_their_order() -> None:
    waiting = backlog(*(entry(f"a{number}", A) for number in range(5)), entry("b0", B), entry("c0", C), entry("b1", B))
    assert [each.id for each in waiting.take(4)] == ["a0", "b0", "c0", "a1"]
    assert len(waiting) == 4
    assert sorted(waiting.ids()) == ["a2", "a3", "a4", "b1"]
    waiting.add([entry("c1", C)])
    assert [each.id for each in waiting.take(10)] == ["b1", "a2", "c1", "a3", "a4"]
    assert not waiting
    assert list(waiting.take(10)) == []


def test_a_batch_ends_with_the_entry_that_reaches_its_bytes() -> None:
    waiting = backlog(*(entry(str(number), A, BATCH_BYTES // 2) for number in range(3)))
    assert len(waiting.take(10)) == 2
    assert len(waiting.take(10)) == 1


def test_backlog_counts_what_fields_take() -> None:
    """A field of two bytes takes about a hundred in memory."""
    fields = {str(number).encode(): b"" for number in range(100)}
    waiting = backlog(*(IntakeEntry(str(number), fields, 190, 100) for number in range(4000)))
    assert waiting.is_full
    waiting.take(4000)
    assert not waiting.is_full
    assert waiting._bytes == 0


def test_backlog_is_full_by_bytes() -> None:
    assert not backlog(entry("a", A)).is_full
    assert backlog(*(entry(str(number), A, BATCH_BYTES) for number in range(8))).is_full


@pytest.mark.parametrize("data", [b"", b"[", b'{"organizationId": 5}', b'{"organizationId": "6a"}'])
def test_entry_without_a_readable_organization_waits_with_its_like(data: bytes) -> None:
    assert organization_of(IntakeEntry("1-0", {b"data": data}, len(data), 1)) is None
    assert organization_of(IntakeEntry("1-0", None)) is None
    assert organization_of(entry("a", A)) == A.encode()
    repeated = f'{{"organizationId": "{B}", "organizationId": "{A.upper()}"}}'.encode()
    assert organization_of(IntakeEntry("1-0", {b"data": repeated}, len(repeated), 1)) == A.encode()


def test_first_requests_of_an_organization_in_each_second_have_an_allowance(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    allowance = Allowance(2)
    assert [allowance.take(each) for each in "aaab"] == [True, True, False, True]
    now += 1
    assert allowance.take("a")
