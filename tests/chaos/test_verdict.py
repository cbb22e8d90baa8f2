"""The checker on evidence made by hand: it accepts correct evidence and finds each kind of violation."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
from bson import ObjectId

from chaos.checker import check
from chaos.evidence import Evidence
from chaos.journal import REFUSED
from chaos.sound_evidence import CLOSED, DONE, FAILED, ORGANIZATION, entry_of, snapshot_of, sound, without_entry
from chaos.verdict import COUNTS, DIFFER, DUPLICATES, ERASED, IDENTITY, LOST, MISSING, WRONG
from worker.stores.stats import Identity


def test_correct_evidence_has_no_violations() -> None:
    verdict = check(sound(), [])
    assert verdict.holds, verdict.violations
    assert (verdict.requests.total(), verdict.events) == (3, 3)


def add_entry(evidence: Evidence, **fields: Any) -> None:
    entry = {**entry_of(ObjectId(), "another", "stream"), "status": "failed", "error": {"code": "x"}, **fields}
    evidence.ledger.append(entry)


FAULTS: dict[str, tuple[str, Callable[[Evidence], Any]]] = {
    "a request that is nowhere": (LOST, lambda e: without_entry(e, DONE)),
    "a closing that is nowhere": (LOST, lambda e: without_entry(e, CLOSED)),
    "a request still in flight": (LOST, lambda e: e.ledger[0].update(status="accepted")),
    "completed without a snapshot": (LOST, lambda e: e.snapshots.pop(0)),
    "unchanged, and no earlier snapshot": (
        LOST,
        lambda e: (e.ledger[2].update(unchanged=True, snapshotId=ObjectId()), e.snapshots.pop(1)),
    ),
    "two entries of one request": (DUPLICATES, lambda e: add_entry(e, tags=["n0"])),
    "an entry of no request": (DUPLICATES, lambda e: add_entry(e, tags=["n9"])),
    "a closing that no one closed": (
        DUPLICATES,
        lambda e: add_entry(e, trigger="conversation.resolved", conversationId=ObjectId()),
    ),
    "a snapshot of no request": (DUPLICATES, lambda e: e.snapshots.append(snapshot_of(ObjectId(), "x", None, []))),
    "failed, with a snapshot": (DUPLICATES, lambda e: e.snapshots.append(snapshot_of(FAILED, "chaos-n1", None, []))),
    "another organization": (WRONG, lambda e: e.ledger[0].update(organizationId=ObjectId())),
    "another request id": (WRONG, lambda e: e.ledger[0].update(requestId="stream:1-0")),
    "another contact": (WRONG, lambda e: e.ledger[0].update(contactId=ObjectId())),
    "another trigger": (WRONG, lambda e: e.ledger[0].update(trigger="task")),
    "refused": (WRONG, lambda e: setattr(e.records["n0"], "answer", REFUSED)),
    "something of an erased contact": (ERASED, lambda e: setattr(e, "left_of_erased", ["contact x is in y"])),
    "an erased contact's snapshot that is not accounted for": (
        IDENTITY,
        lambda e: setattr(e, "erasing_ledger", [entry_of(ObjectId(), "erased-1", "stream")]),
    ),
    "a valid request that was rejected": (WRONG, lambda e: setattr(e, "rejected", ["n0"])),
    "failed instead of completed": (WRONG, lambda e: setattr(e.records["n1"], "expected", "completed")),
    "too few messages": (WRONG, lambda e: setattr(e.records["n0"], "messages", 3)),
    "a snapshot that is not whole": (WRONG, lambda e: setattr(e.snapshots[0], "whole", False)),
    "other messages": (WRONG, lambda e: setattr(e.snapshots[0], "digest", "another")),
    "another customer": (WRONG, lambda e: setattr(e.snapshots[0], "customer", "Bo")),
    "another quality": (WRONG, lambda e: e.ledger[0].update(quality="bad")),
    "a snapshot of another quality": (WRONG, lambda e: setattr(e.snapshots[0], "quality", None)),
    "another's tags": (WRONG, lambda e: setattr(e.snapshots[0], "tags", ["n1"])),
    "another conversation": (WRONG, lambda e: setattr(e.snapshots[1], "conversation", None)),
    "no event": (MISSING, lambda e: e.stream.pop(0)),
    "unsent": (MISSING, lambda e: e.ledger[0].update(unsent=True)),
    "in the outbox": (MISSING, lambda e: setattr(e, "unsent", {DONE})),
    "two contents of one event": (DIFFER, lambda e: e.seen[f"{DONE}.0"].append("{}")),
    "an event of no outcome": (DIFFER, lambda e: e.seen.update({f"{ObjectId()}.0": ["{}"]})),
    "an event of a round to come": (DIFFER, lambda e: e.seen.update({f"{DONE}.1": ["{}"]})),
    "an event of another contact": (DIFFER, lambda e: e.stream[0]["data"].update(contactId="x")),
    "an event with other tags": (DIFFER, lambda e: e.stream[0]["data"].update(tags=["x"])),
    "an event with another error": (DIFFER, lambda e: e.stream[1]["data"].update(error={"code": "x"})),
    "a kept count that is wrong": (
        COUNTS,
        lambda e: setattr(e, "kept", [Identity(ORGANIZATION, accepted=3, completed=1, failed=1, snapshots=2)]),
    ),
    "an organization without kept counts": (COUNTS, lambda e: setattr(e, "kept", [])),
    "kept counts of an organization that has no requests": (
        COUNTS,
        lambda e: setattr(e, "kept", [*(e.kept or ()), Identity(ObjectId(), accepted=1, failed=1)]),
    ),
    "kept counts that a sweep had to correct": (COUNTS, lambda e: setattr(e, "wrong_counts", ["1 was corrected"])),
    "more snapshots than completed": (IDENTITY, lambda e: e.snapshots.append(snapshot_of(ObjectId(), "x", None, []))),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_violation_is_found_as_its_kind(fault: str) -> None:
    kind, cause = FAULTS[fault]
    evidence = copy.deepcopy(sound())
    cause(evidence)
    assert check(evidence, []).violations[kind]


def test_violation_during_the_run_counts() -> None:
    assert not check(sound(), ["event before its snapshot can be read"]).holds
