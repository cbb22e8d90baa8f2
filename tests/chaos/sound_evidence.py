"""Evidence of a correct run of three requests, made by hand, for the tests of the checker."""

from typing import Any

from bson import ObjectId

from chaos.evidence import Evidence, Snapshot, _canonical
from chaos.journal import ACCEPTED, SENT, Record
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
        entry_of(DONE, "chaos-n0", "stream", tags=["n0"], quality="good"),
        entry_of(FAILED, "chaos-n1", "backfill", tags=["n1"], status="failed", error={"code": "empty_conversation"}),
        entry_of(CLOSED, f"resolved:{CONVERSATION}:1", "conversation.resolved", conversationId=CONVERSATION),
    ]
    snapshots = [
        snapshot_of(DONE, "chaos-n0", None, ["n0"]),
        snapshot_of(CLOSED, ledger[2]["requestId"], CONVERSATION, []),
    ]
    records["n0"].quality = snapshots[0].quality = "good"
    stream = [event_of(each) for each in ledger]
    seen = {each["id"]: [_canonical(each)] for each in stream}
    kept = [Identity(ORGANIZATION, accepted=3, completed=2, failed=1, snapshots=2)]
    wanted = dict.fromkeys((DONE, CLOSED), ("digest", "Ada"))
    return Evidence(records, ledger, snapshots, stream, seen, wanted=wanted, kept=kept)


def entry_of(key: ObjectId, request_id: str, trigger: str, **more: Any) -> dict[str, Any]:
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


def snapshot_of(key: ObjectId, request_id: str, conversation: ObjectId | None, tags: list[str]) -> Snapshot:
    place = str(conversation) if conversation else None
    return Snapshot(key, str(ORGANIZATION), request_id, str(CONTACT), place, "Ada", tags, 2, "digest", whole=True)


def event_of(entry: dict[str, Any]) -> dict[str, Any]:
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


def without_entry(evidence: Evidence, key: ObjectId) -> None:
    """Removes a completed request, as if it had never come."""
    evidence.ledger = [each for each in evidence.ledger if each["_id"] != key]
    evidence.snapshots = [each for each in evidence.snapshots if each.id != key]
    evidence.stream = [each for each in evidence.stream if each["subject"] != str(key)]
    evidence.seen.pop(f"{key}.0")
    evidence.kept = [Identity(ORGANIZATION, accepted=2, completed=1, failed=1, snapshots=1)]
