"""The checker on evidence made by hand: nothing against what is sound, and the kind of whatever is not."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
from bson import ObjectId

from chaos.checker import Verdict, check
from chaos.evidence import Evidence, Snapshot, _canonical
from chaos.journal import ACCEPTED, REFUSED, SENT, UNKNOWN, Record

ORGANIZATION, CONTACT, CONVERSATION = ObjectId(), ObjectId(), ObjectId()
DONE, FAILED, CLOSED = ObjectId(), ObjectId(), ObjectId()


def sound() -> Evidence:
    """A request by the stream that completed, one by HTTP that failed, a closing."""
    records = {
        "n0": Record("n0", "stream", str(ORGANIZATION), "completed", 2, "chaos-n0", None, str(CONTACT), answer=SENT),
        "n1": Record("n1", "bulk", str(ORGANIZATION), "empty_conversation", 0, "chaos-n1", None, answer=ACCEPTED),
        "n2": Record(
            "n2", "closing", str(ORGANIZATION), "completed", 2, f"resolved:{CONVERSATION}:1", str(CONVERSATION)
        ),
    }
    for record in records.values():
        record.sent_at = [1000.0]
    ledger = [
        _entry(DONE, "chaos-n0", "stream", tags=["n0"], quality="good"),
        _entry(FAILED, "chaos-n1", "backfill", tags=["n1"], status="failed", error={"code": "empty_conversation"}),
        _entry(CLOSED, f"resolved:{CONVERSATION}:1", "conversation.resolved", conversationId=CONVERSATION),
    ]
    snapshots = [_snapshot(DONE, "chaos-n0", None, ["n0"]), _snapshot(CLOSED, ledger[2]["requestId"], CONVERSATION, [])]
    stream = [_event(each) for each in ledger]
    seen = {each["id"]: [_canonical(each)] for each in stream}
    return Evidence(records, ledger, snapshots, stream, seen, wanted=dict.fromkeys((DONE, CLOSED), ("digest", "Ada")))


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


def test_nothing_is_found_where_nothing_is_wrong() -> None:
    verdict = check(sound(), [])
    assert verdict.holds, verdict.violations
    assert (verdict.requests.total(), verdict.events) == (3, 3)


def without_entry(evidence: Evidence, key: ObjectId) -> None:
    evidence.ledger = [each for each in evidence.ledger if each["_id"] != key]
    evidence.snapshots = [each for each in evidence.snapshots if each.id != key]
    evidence.stream = [each for each in evidence.stream if each["subject"] != str(key)]
    evidence.seen.pop(f"{key}.0")


def add_entry(evidence: Evidence, **fields: Any) -> None:
    entry = {**_entry(ObjectId(), "another", "stream"), "status": "failed", "error": {"code": "x"}, **fields}
    evidence.ledger.append(entry)


FAULTS: dict[str, tuple[str, Callable[[Evidence], Any]]] = {
    "a request that is nowhere": ("lost", lambda e: without_entry(e, DONE)),
    "a closing that is nowhere": ("lost", lambda e: without_entry(e, CLOSED)),
    "a request still in flight": ("lost", lambda e: e.ledger[0].update(status="accepted")),
    "completed without a snapshot": ("lost", lambda e: e.snapshots.pop(0)),
    "unchanged, and no earlier snapshot": (
        "lost",
        lambda e: (e.ledger[2].update(unchanged=True, snapshotId=ObjectId()), e.snapshots.pop(1)),
    ),
    "two entries of one request": ("duplicates", lambda e: add_entry(e, tags=["n0"])),
    "an entry of no request": ("duplicates", lambda e: add_entry(e, tags=["n9"])),
    "a closing that no one closed": (
        "duplicates",
        lambda e: add_entry(e, trigger="conversation.resolved", conversationId=ObjectId()),
    ),
    "a snapshot of no request": ("duplicates", lambda e: e.snapshots.append(_snapshot(ObjectId(), "x", None, []))),
    "failed, with a snapshot": ("duplicates", lambda e: e.snapshots.append(_snapshot(FAILED, "chaos-n1", None, []))),
    "another organization": ("wrong outcome", lambda e: e.ledger[0].update(organizationId=ObjectId())),
    "another request id": ("wrong outcome", lambda e: e.ledger[0].update(requestId="stream:1-0")),
    "another contact": ("wrong outcome", lambda e: e.ledger[0].update(contactId=ObjectId())),
    "another trigger": ("wrong outcome", lambda e: e.ledger[0].update(trigger="task")),
    "refused": ("wrong outcome", lambda e: setattr(e.records["n0"], "answer", REFUSED)),
    "rejected by the intake": ("wrong outcome", lambda e: setattr(e, "rejected", 1)),
    "failed instead of completed": ("wrong outcome", lambda e: setattr(e.records["n1"], "expected", "completed")),
    "too few messages": ("wrong outcome", lambda e: setattr(e.records["n0"], "messages", 3)),
    "a snapshot that is not whole": ("wrong outcome", lambda e: setattr(e.snapshots[0], "whole", False)),
    "other messages": ("wrong outcome", lambda e: setattr(e.snapshots[0], "digest", "another")),
    "another customer": ("wrong outcome", lambda e: setattr(e.snapshots[0], "customer", "Bo")),
    "another's tags": ("wrong outcome", lambda e: setattr(e.snapshots[0], "tags", ["n1"])),
    "another conversation": ("wrong outcome", lambda e: setattr(e.snapshots[1], "conversation", None)),
    "no event": ("events missing", lambda e: e.stream.pop(0)),
    "unsent": ("events missing", lambda e: e.ledger[0].update(unsent=True)),
    "two contents of one event": ("events differ", lambda e: e.seen[f"{DONE}.0"].append("{}")),
    "an event of no outcome": ("events differ", lambda e: e.seen.update({f"{ObjectId()}.0": ["{}"]})),
    "an event of a round to come": ("events differ", lambda e: e.seen.update({f"{DONE}.1": ["{}"]})),
    "an event of another contact": ("events differ", lambda e: e.stream[0]["data"].update(contactId="x")),
    "an event with other tags": ("events differ", lambda e: e.stream[0]["data"].update(tags=["x"])),
    "an event with another error": ("events differ", lambda e: e.stream[1]["data"].update(error={"code": "x"})),
    "more snapshots than completed": ("identity", lambda e: e.snapshots.append(_snapshot(ObjectId(), "x", None, []))),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found_as_what_it_is(fault: str) -> None:
    kind, cause = FAULTS[fault]
    evidence = copy.deepcopy(sound())
    cause(evidence)
    assert check(evidence, []).violations[kind]


def test_what_was_seen_along_the_way_breaks_the_promise_too() -> None:
    assert not check(sound(), ["event before its snapshot can be read"]).holds


# --- a bare XADD, which is not acceptance ------------------------------------------------------------------


def bare(answer: str, sent_at: list[float], *lost: tuple[float, float]) -> Verdict:
    evidence = sound()
    without_entry(evidence, DONE)
    record = evidence.records["n0"]
    record.request_id, record.answer, record.sent_at = "stream:1-0", answer, sent_at
    return check(evidence, [], lost)


def test_bare_entry_that_redis_lost_was_never_accepted() -> None:
    assert bare(SENT, [1000.0], (1010.0, 1020.0)).not_accepted == 1
    assert bare(UNKNOWN, [1000.0]).not_accepted == 1


@pytest.mark.parametrize("lost", [(), ((500.0, 900.0),), ((5000.0, 5010.0),)])
def test_bare_entry_that_redis_had_no_reason_to_lose_is_lost(lost: tuple[tuple[float, float], ...]) -> None:
    assert bare(SENT, [1000.0], *lost).violations["lost"]


def test_request_that_was_never_sent_is_lost() -> None:
    assert bare(UNKNOWN, []).violations["lost"]
