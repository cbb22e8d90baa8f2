"""The checker on evidence made by hand: it accepts correct evidence and finds each kind of violation."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
from bson import ObjectId

from chaos.checker import COUNTS, DIFFER, DUPLICATES, ERASED, IDENTITY, LOST, MISSING, WRONG, Verdict, check
from chaos.evidence import Evidence, Snapshot, _canonical
from chaos.intake_losses import Acknowledged, Loss
from chaos.journal import ACCEPTED, REFUSED, SENT, UNKNOWN, Record
from worker.stores.stats import Identity

ORGANIZATION, CONTACT, CONVERSATION = ObjectId(), ObjectId(), ObjectId()
DONE, FAILED, CLOSED = ObjectId(), ObjectId(), ObjectId()


def sound() -> Evidence:
    """A request through the stream that completed, one in bulk that failed, and a closing."""
    records = {
        "n0": Record("n0", "stream", str(ORGANIZATION), "completed", 2, "chaos-n0", None, str(CONTACT), answer=SENT),
        "n1": Record("n1", "bulk", str(ORGANIZATION), "empty_conversation", 0, "chaos-n1", None, answer=ACCEPTED),
        "n2": Record(
            "n2", "closing", str(ORGANIZATION), "completed", 2, f"resolved:{CONVERSATION}:1", str(CONVERSATION)
        ),
    }
    for record in records.values():
        record.sends = [(1000.0, 1000.1)]
    ledger = [
        _entry(DONE, "chaos-n0", "stream", tags=["n0"], quality="good"),
        _entry(FAILED, "chaos-n1", "backfill", tags=["n1"], status="failed", error={"code": "empty_conversation"}),
        _entry(CLOSED, f"resolved:{CONVERSATION}:1", "conversation.resolved", conversationId=CONVERSATION),
    ]
    snapshots = [_snapshot(DONE, "chaos-n0", None, ["n0"]), _snapshot(CLOSED, ledger[2]["requestId"], CONVERSATION, [])]
    stream = [_event(each) for each in ledger]
    seen = {each["id"]: [_canonical(each)] for each in stream}
    kept = [Identity(ORGANIZATION, accepted=3, completed=2, failed=1, snapshots=2)]
    wanted = dict.fromkeys((DONE, CLOSED), ("digest", "Ada"))
    return Evidence(records, ledger, snapshots, stream, seen, wanted=wanted, kept=kept)


def _entry(key: ObjectId, request_id: str, trigger: str, **more: Any) -> dict[str, Any]:
    return {
        "_id": key,
        "organizationId": ORGANIZATION,
        "requestId": request_id,
        "contactId": CONTACT,
        "trigger": trigger,
        "status": "completed",
        "round": 0,
        **({"snapshotId": key, "messageCount": 2} if more.get("status") != "failed" else {}),
        **more,
    }


def _snapshot(key: ObjectId, request_id: str, conversation: ObjectId | None, tags: list[str]) -> Snapshot:
    place = str(conversation) if conversation else None
    return Snapshot(key, str(ORGANIZATION), request_id, str(CONTACT), place, "Ada", tags, 2, "digest", whole=True)


def _event(entry: dict[str, Any]) -> dict[str, Any]:
    data: dict[str, Any] = {
        **{name: str(entry[name]) for name in ("organizationId", "requestId", "contactId", "trigger")},
        "conversationId": str(entry["conversationId"]) if "conversationId" in entry else None,
    }
    if entry["status"] == "failed":
        data["error"] = entry["error"]
    else:
        data |= {"messageCount": 2, "quality": entry.get("quality"), "category": None, "tags": entry.get("tags", [])}
    return {
        "id": f"{entry['_id']}.0",
        "type": f"training.snapshot.{entry['status']}",
        "subject": str(entry["_id"]),
        "data": data,
    }


def test_correct_evidence_has_no_violations() -> None:
    verdict = check(sound(), [])
    assert verdict.holds, verdict.violations
    assert (verdict.requests.total(), verdict.events) == (3, 3)


def without_entry(evidence: Evidence, key: ObjectId) -> None:
    """Removes a completed request, as if it had never come."""
    evidence.ledger = [each for each in evidence.ledger if each["_id"] != key]
    evidence.snapshots = [each for each in evidence.snapshots if each.id != key]
    evidence.stream = [each for each in evidence.stream if each["subject"] != str(key)]
    evidence.seen.pop(f"{key}.0")
    evidence.kept = [Identity(ORGANIZATION, accepted=2, completed=1, failed=1, snapshots=1)]


def add_entry(evidence: Evidence, **fields: Any) -> None:
    entry = {**_entry(ObjectId(), "another", "stream"), "status": "failed", "error": {"code": "x"}, **fields}
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
    "a snapshot of no request": (DUPLICATES, lambda e: e.snapshots.append(_snapshot(ObjectId(), "x", None, []))),
    "failed, with a snapshot": (DUPLICATES, lambda e: e.snapshots.append(_snapshot(FAILED, "chaos-n1", None, []))),
    "another organization": (WRONG, lambda e: e.ledger[0].update(organizationId=ObjectId())),
    "another request id": (WRONG, lambda e: e.ledger[0].update(requestId="stream:1-0")),
    "another contact": (WRONG, lambda e: e.ledger[0].update(contactId=ObjectId())),
    "another trigger": (WRONG, lambda e: e.ledger[0].update(trigger="task")),
    "refused": (WRONG, lambda e: setattr(e.records["n0"], "answer", REFUSED)),
    "something of an erased contact": (ERASED, lambda e: setattr(e, "left_of_erased", ["contact x is in y"])),
    "an erased contact's snapshot that is not accounted for": (
        IDENTITY,
        lambda e: setattr(e, "erasing_ledger", [_entry(ObjectId(), "erased-1", "stream")]),
    ),
    "a valid request that was rejected": (WRONG, lambda e: setattr(e, "rejected", ["n0"])),
    "failed instead of completed": (WRONG, lambda e: setattr(e.records["n1"], "expected", "completed")),
    "too few messages": (WRONG, lambda e: setattr(e.records["n0"], "messages", 3)),
    "a snapshot that is not whole": (WRONG, lambda e: setattr(e.snapshots[0], "whole", False)),
    "other messages": (WRONG, lambda e: setattr(e.snapshots[0], "digest", "another")),
    "another customer": (WRONG, lambda e: setattr(e.snapshots[0], "customer", "Bo")),
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
    "more snapshots than completed": (IDENTITY, lambda e: e.snapshots.append(_snapshot(ObjectId(), "x", None, []))),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_violation_is_found_as_its_kind(fault: str) -> None:
    kind, cause = FAULTS[fault]
    evidence = copy.deepcopy(sound())
    cause(evidence)
    assert check(evidence, []).violations[kind]


def test_violation_during_the_run_counts() -> None:
    assert not check(sound(), ["event before its snapshot can be read"]).holds


# --- an XADD without a request id, which is not acceptance ---------------------------------------------------

SENT_AT = 1000.0
ENTRY = "1000050-0"
"""The id of an entry that was added within 50 ms of `SENT_AT`."""


def missing(answer: str, *losses: Loss, seen: str | None = None, sends: int = 1) -> Verdict:
    """The verdict on a bare XADD that is not in the ledger; with answer SENT, its id is `ENTRY`."""
    evidence = sound()
    without_entry(evidence, DONE)
    record = evidence.records["n0"]
    record.request_id = f"stream:{ENTRY}" if answer == SENT else None
    record.answer, record.sends = answer, [(SENT_AT, SENT_AT + 0.1)] * sends
    evidence.losses = losses
    evidence.seen_in_stream = {"n0": seen} if seen else {}
    return check(evidence, [])


def restart(at: int, kept: int, acknowledged: int = 0) -> Loss:
    """Redis started again with the entries up to `kept`; those up to `acknowledged` had been acknowledged."""
    return Loss(at, (kept, 0), Acknowledged((acknowledged, 0)), read_at=at / 1000 - 1, gone_at=at / 1000 - 0.5)


def test_what_was_acknowledged_once_stays_so_although_it_is_delivered_again() -> None:
    one, two, three = (1, 0), (2, 0), (3, 0)
    seen = Acknowledged().after(two, frozenset({one}))
    assert (one in seen, two in seen, three in seen) == (False, True, False)
    seen = seen.after((0, 0), frozenset({one, two}))  # the group was set back
    assert (one in seen, two in seen) == (False, True)
    seen = seen.after(three, frozenset())
    assert one in seen
    assert three in seen


def test_entry_behind_what_a_restart_kept_is_excused() -> None:
    verdict = missing(SENT, restart(at=1_002_000, kept=1_000_049))
    assert verdict.holds
    assert (verdict.bare, verdict.excusable, verdict.excused, verdict.never_taken) == (1, 1, 1, 0)


@pytest.mark.parametrize(
    "losses",
    [
        pytest.param((), id="no loss"),
        pytest.param((restart(at=1_002_000, kept=1_000_050),), id="kept by the restart"),
        pytest.param((restart(at=1_000_000, kept=0),), id="added after the restart"),
        pytest.param((restart(at=1_002_000, kept=1_000_040, acknowledged=1_000_050),), id="acknowledged"),
        pytest.param(
            (restart(at=1_000_040, kept=999_000), restart(at=9_000_000, kept=8_999_000)), id="between two restarts"
        ),
        pytest.param(
            (Loss(1_002_000, (0, 0), Acknowledged((1_000_050, 0)), 1001.0, 1002.0),), id="acknowledged before the flush"
        ),
    ],
)
def test_entry_that_redis_cannot_have_lost_is_a_violation(losses: tuple[Loss, ...]) -> None:
    verdict = missing(SENT, *losses)
    assert verdict.violations[LOST]
    assert verdict.excusable == 0


def test_damaged_append_only_file_excuses_nothing_that_was_acknowledged() -> None:
    """A file that was cut far back loses entries of any age, but not those whose requests had to be durable."""
    cut = restart(at=9_000_000, kept=10_000, acknowledged=1_000_050)
    assert missing(SENT, cut).violations[LOST]
    assert missing(SENT, restart(at=9_000_000, kept=10_000, acknowledged=1_000_049)).holds


def test_entry_without_an_answer_that_was_never_in_redis_is_no_loss() -> None:
    verdict = missing(UNKNOWN)
    assert verdict.holds
    assert (verdict.excusable, verdict.excused, verdict.never_taken) == (0, 0, 1)


def test_entry_without_an_answer_that_was_seen_in_the_stream_is_a_violation() -> None:
    assert missing(UNKNOWN, seen=ENTRY).violations[LOST]
    assert missing(UNKNOWN, restart(at=1_002_000, kept=1_000_000), seen=ENTRY).holds


def test_entry_without_an_answer_is_excused_only_if_the_process_died_about_then() -> None:
    assert missing(UNKNOWN, restart(at=1_001_000, kept=1)).excusable == 1
    assert missing(UNKNOWN, restart(at=990_000, kept=1)).excusable == 0
    assert missing(UNKNOWN, restart(at=1_100_000, kept=1)).excusable == 0


def test_request_that_was_never_sent_is_lost() -> None:
    assert missing(UNKNOWN, sends=0).violations[LOST]


def test_blindness_is_counted_also_where_nothing_is_missing() -> None:
    evidence = sound()
    record = evidence.records["n0"]
    record.request_id = f"stream:{ENTRY}"
    evidence.ledger[0]["requestId"] = record.request_id
    evidence.losses = [restart(at=1_002_000, kept=1)]
    verdict = check(evidence, [])
    assert (verdict.excusable, verdict.excused, verdict.excused_share) == (1, 0, 1.0)
