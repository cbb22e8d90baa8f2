"""Holds what is left against what was sent. It knows DESIGN section 2, and nothing of how the system works."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from chaos.evidence import Evidence, Snapshot
from chaos.journal import REFUSED, UNKNOWN, Record

COMPLETED, FAILED = "completed", "failed"
_TRIGGERS = {"stream": "stream", "task": "task", "http": "api", "bulk": "backfill", "closing": "conversation.resolved"}
_IN_THE_STREAM = 180.0
"""Seconds for which an entry may be in Redis alone: a listener accepts none while MongoDB is away."""
KINDS = ("lost", "duplicates", "events missing", "events differ", "wrong outcome", "identity", "along the way")


@dataclass
class Verdict:
    """Counts, and violations by kind."""

    requests: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    not_accepted: int = 0
    """Without a request id, taken by Redis and gone with it: no acceptance, so no promise."""
    events: int = 0
    repeated: int = 0
    """Events that are more than once in the stream."""
    violations: dict[str, list[str]] = field(default_factory=lambda: {kind: [] for kind in KINDS})

    @property
    def holds(self) -> bool:
        return not any(self.violations.values())


Window = tuple[float, float]
"""Of time, in seconds since 1970."""


def check(evidence: Evidence, along_the_way: Iterable[str], redis_lost: Sequence[Window] = ()) -> Verdict:
    """All that the promise says. `redis_lost`: when faults made Redis lose what it had taken."""
    verdict = Verdict()
    verdict.violations["along the way"] += along_the_way
    entries = {(str(each["organizationId"]), each["requestId"]): each for each in evidence.ledger}
    snapshots: dict[Any, Snapshot] = {each.id: each for each in evidence.snapshots}
    by_token = _by_token(evidence)
    for record in evidence.records.values():
        verdict.requests[record.way] += 1
        _check_request(record, entries, by_token.pop(record.token, []), redis_lost, verdict)
    for token, found in by_token.items():
        verdict.violations["duplicates"] += [f"{each['_id']} ({token}): of no request" for each in found]
    kept = {each.id: each.conversation for each in evidence.snapshots}
    for entry in evidence.ledger:
        _check_outcome(entry, snapshots.pop(entry["_id"], None), evidence, kept, verdict)
    if evidence.rejected:
        verdict.violations["wrong outcome"].append(
            f"{evidence.rejected} entries were rejected, of which none should be"
        )
    verdict.violations["duplicates"] += [f"snapshot {each} is of no request" for each in snapshots]
    _check_events(evidence, verdict)
    _check_identity(evidence, verdict)
    return verdict


def _by_token(evidence: Evidence) -> dict[str, list[dict[str, Any]]]:
    """Ledger entries by the token of the request that they are of, whatever request id they have."""
    closed = {record.conversation: record.token for record in evidence.records.values() if record.way == "closing"}
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for entry in evidence.ledger:
        if entry["trigger"] == "conversation.resolved":
            token = closed.get(str(entry.get("conversationId")), "")
        else:
            token = next(iter(entry.get("tags", [])), "")
        found[token].append(entry)
    return found


def _check_request(
    record: Record,
    entries: dict[tuple[str, str], Any],
    found: list[dict[str, Any]],
    redis_lost: Sequence[Window],
    verdict: Verdict,
) -> None:
    name = f"{record.token} ({record.way}, {record.request_id})"
    if len(found) > 1:
        verdict.violations["duplicates"].append(f"{name}: {len(found)} requests of one")
    if record.answer == REFUSED:
        verdict.violations["wrong outcome"].append(f"{name}: refused, which no request here should be")
        return
    entry = entries.get((record.organization, record.request_id or "")) or (found[0] if found else None)
    if entry is None:
        if _is_bare(record) and _may_be_gone(record, redis_lost):
            verdict.not_accepted += 1
        else:
            verdict.violations["lost"].append(f"{name}: answered {record.answer!r}, not in the ledger")
        return
    if wrong := [*_strayed(record, entry)]:
        verdict.violations["wrong outcome"].append(f"{name}: the ledger has another {', '.join(wrong)}")
        return
    if entry["status"] not in {COMPLETED, FAILED}:
        verdict.violations["lost"].append(f"{name}: still {entry['status']}")
        return
    outcome = COMPLETED if entry["status"] == COMPLETED else entry["error"]["code"]
    verdict.outcomes[outcome] += 1
    if outcome != record.expected:
        verdict.violations["wrong outcome"].append(f"{name}: {outcome} instead of {record.expected}")
    elif outcome == COMPLETED and entry["messageCount"] != record.messages:
        verdict.violations["wrong outcome"].append(
            f"{name}: {entry['messageCount']} messages instead of {record.messages}"
        )


def _strayed(record: Record, entry: dict[str, Any]) -> Iterator[str]:
    """Fields in which the ledger's entry is not what was sent."""
    said = {
        "organization": (record.organization, entry["organizationId"]),
        "requestId": (record.request_id, entry["requestId"]),
        "contact": (record.contact, entry.get("contactId")),
        "conversation": (record.conversation, entry.get("conversationId")),
        "trigger": (_TRIGGERS[record.way], entry["trigger"]),
    }
    # What the driver does not know, it did not say: a bare XADD's request id, a closing's contact.
    yield from (name for name, (sent, kept) in said.items() if sent is not None and sent != str(kept))
    if record.message_ids is not None and record.message_ids != [str(each) for each in entry.get("messageIds", ())]:
        yield "messageIds"
    if record.way != "closing" and entry.get("tags") != [record.token]:
        yield "tags"


def _may_be_gone(record: Record, redis_lost: Sequence[Window]) -> bool:
    """Sent, and no answer, or shortly before or while Redis lost what it had."""
    if record.answer == UNKNOWN:
        return bool(record.sent_at)
    return any(since - _IN_THE_STREAM <= at <= until for at in record.sent_at for since, until in redis_lost)


def _is_bare(record: Record) -> bool:
    """An XADD without a request id: its producer cannot repeat it."""
    return record.way == "stream" and not (record.request_id or "").startswith("chaos")


def _check_outcome(
    entry: dict[str, Any], snapshot: Snapshot | None, evidence: Evidence, kept: dict[Any, str | None], verdict: Verdict
) -> None:
    name = f"{entry['_id']} ({entry['requestId']})"
    if entry["status"] != COMPLETED:
        if snapshot is not None:
            verdict.violations["duplicates"].append(f"{name}: {entry['status']}, and there is a snapshot")
    elif entry.get("unchanged"):
        if snapshot is not None:
            verdict.violations["duplicates"].append(f"{name}: unchanged, and there is a copy")
        if kept.get(entry["snapshotId"], "") != str(entry.get("conversationId")):
            verdict.violations["lost"].append(f"{name}: unchanged, and there is no earlier snapshot of it")
    elif snapshot is None:
        verdict.violations["lost"].append(f"{name}: completed, and there is no snapshot")
    elif (
        not snapshot.whole
        or snapshot.messages != entry["messageCount"]
        or snapshot.request_id != entry["requestId"]
        or snapshot.organization != str(entry["organizationId"])
    ):
        verdict.violations["wrong outcome"].append(f"{name}: its snapshot is another's, or not whole")
    elif wrong := [*_differing(entry, snapshot, *evidence.wanted[entry["_id"]])]:
        verdict.violations["wrong outcome"].append(f"{name}: its snapshot has another {', '.join(wrong)}")
    if entry.get("unsent"):
        verdict.violations["events missing"].append(f"{name}: still unsent")


def _differing(entry: dict[str, Any], snapshot: Snapshot, digest: str, customer: str) -> Iterator[str]:
    """In what a snapshot is not what the request and the platform's collections say."""
    conversation = str(entry["conversationId"]) if entry.get("conversationId") else None
    said = {
        "messages": (digest, snapshot.digest),
        "customer": (customer, snapshot.customer),
        "contact": (str(entry["contactId"]), snapshot.contact),
        "conversation": (conversation, snapshot.conversation),
        "tags": (entry.get("tags", []), snapshot.tags),
    }
    yield from (name for name, (wanted, found) in said.items() if wanted != found)


def _check_events(evidence: Evidence, verdict: Verdict) -> None:
    verdict.events = len(evidence.stream)
    in_stream = Counter(event["id"] for event in evidence.stream)
    verdict.repeated = sum(count > 1 for count in in_stream.values())
    rounds = {str(each["_id"]): each for each in evidence.ledger}
    for entry in evidence.ledger:
        if entry["status"] in {COMPLETED, FAILED} and f"{entry['_id']}.{entry['round']}" not in in_stream:
            verdict.violations["events missing"].append(f"{entry['_id']}.{entry['round']} ({entry['requestId']})")
    for key, contents in evidence.seen.items():
        if len(contents) > 1:
            verdict.violations["events differ"].append(f"{key}: {len(contents)} contents, {contents[0]} {contents[1]}")
        entry_id, _, round_ = key.partition(".")
        if entry_id not in rounds or int(round_) > rounds[entry_id]["round"]:
            verdict.violations["events differ"].append(f"{key}: of no outcome")
    for event in evidence.stream:
        verdict.violations["events differ"] += _differences(event, rounds)


def _differences(event: dict[str, Any], entries: dict[str, dict[str, Any]]) -> Iterator[str]:
    entry_id, _, round_ = event["id"].partition(".")
    entry = entries.get(entry_id)
    if entry is None or int(round_) != entry["round"]:
        return
    subject = entry.get("snapshotId") if entry["status"] == COMPLETED else entry["_id"]
    expected = {
        "type": f"training.snapshot.{entry['status']}",
        "subject": str(subject),
        "organizationId": str(entry["organizationId"]),
        "requestId": entry["requestId"],
        "messageCount": entry.get("messageCount"),
        "code": entry.get("error", {}).get("code"),
        "contactId": str(entry["contactId"]),
        "conversationId": str(entry["conversationId"]) if entry.get("conversationId") else None,
        "trigger": entry["trigger"],
        **({name: entry.get(name) for name in ("quality", "category")} if entry["status"] == COMPLETED else {}),
        **({"tags": entry.get("tags", [])} if entry["status"] == COMPLETED else {}),
    }
    data = event["data"]
    said = {
        "type": event["type"],
        "subject": event["subject"],
        "organizationId": data["organizationId"],
        "requestId": data["requestId"],
        "messageCount": data.get("messageCount"),
        "code": data.get("error", {}).get("code"),
        **{name: data[name] for name in ("contactId", "conversationId", "trigger")},
        **({name: data[name] for name in ("quality", "category", "tags")} if entry["status"] == COMPLETED else {}),
    }
    if said != expected:
        yield f"{event['id']}: says {said}, the ledger {expected}"


def _check_identity(evidence: Evidence, verdict: Verdict) -> None:
    statuses: dict[str, Counter[str]] = defaultdict(Counter)
    for entry in evidence.ledger:
        copied = entry["status"] == COMPLETED and not entry.get("unchanged") and not entry.get("deletedAt")
        statuses[str(entry["organizationId"])].update([entry["status"], *(["copies"] if copied else [])])
    stored = Counter(each.organization for each in evidence.snapshots)
    for organization, found in statuses.items():
        if found["copies"] != stored[organization]:
            verdict.violations["identity"].append(
                f"{organization}: {found['copies']} completed with a copy, {stored[organization]} snapshots"
            )
        if unfinished := found.total() - found["copies"] - found[COMPLETED] - found[FAILED]:
            verdict.violations["identity"].append(f"{organization}: {unfinished} still in flight")
