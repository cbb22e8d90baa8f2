"""Compares what is left after a run with what was sent, by the guarantees of docs/reliability.md alone."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from chaos import kept_counts
from chaos.evidence import Evidence, Snapshot
from chaos.excuses import is_excused
from chaos.journal import REFUSED, Record
from chaos.verdict import COUNTS, DIFFER, DUPLICATES, DURING, ERASED, IDENTITY, LOST, MISSING, WRONG, Verdict

COMPLETED, FAILED = "completed", "failed"
_TRIGGERS = {
    "stream": "stream",
    "burst": "stream",
    "task": "task",
    "http": "api",
    "bulk": "backfill",
    "closing": "conversation.resolved",
}


def check(evidence: Evidence, during_the_run: Iterable[str]) -> Verdict:
    """Checks every guarantee. `during_the_run`: violations that the consumer of the events saw."""
    verdict = Verdict()
    verdict.violations[DURING] += during_the_run
    verdict.violations[ERASED] += evidence.left_of_erased
    entries = {(str(entry["organizationId"]), entry["requestId"]): entry for entry in evidence.ledger}
    snapshots: dict[Any, Snapshot] = {snapshot.id: snapshot for snapshot in evidence.snapshots}
    by_token = _by_token(evidence)
    for record in evidence.records.values():
        verdict.requests[record.channel] += 1
        mine = by_token.pop(record.token, [])
        entry = entries.get((record.organization, record.request_id or "")) or (mine[0] if mine else None)
        if len(mine) > 1:
            verdict.violations[DUPLICATES].append(f"{_name(record)}: {len(mine)} ledger entries for one request")
        if is_excused(record, entry, evidence, verdict):
            continue
        _check_request(record, entry, verdict)
    for token, unknown in by_token.items():
        verdict.violations[DUPLICATES] += [f"{entry['_id']} ({token}): belongs to no request" for entry in unknown]
    conversations = {snapshot.id: snapshot.conversation for snapshot in evidence.snapshots}
    for entry in evidence.ledger:
        _check_outcome(entry, snapshots.pop(entry["_id"], None), evidence, conversations, verdict)
    verdict.violations[WRONG] += [f"{token}: a valid request was rejected" for token in evidence.rejected]
    verdict.violations[DUPLICATES] += [f"snapshot {key} belongs to no request" for key in snapshots]
    _check_events(evidence, verdict)
    _check_identity(evidence.ledger, evidence.snapshots, verdict)
    _check_identity(evidence.erasing_ledger, evidence.erasing_snapshots, verdict)
    verdict.violations[COUNTS] += evidence.wrong_counts
    if evidence.kept is not None:
        verdict.violations[COUNTS] += kept_counts.differing(evidence, evidence.kept)
    return verdict


def _name(record: Record) -> str:
    return f"{record.token} ({record.channel}, {record.request_id})"


def _by_token(evidence: Evidence) -> dict[str, list[dict[str, Any]]]:
    """Ledger entries by the token of the request that they belong to, whatever request id they have."""
    closed = {record.conversation: record.token for record in evidence.records.values() if record.channel == "closing"}
    by_token: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for entry in evidence.ledger:
        if entry["trigger"] == "conversation.resolved":
            token = closed.get(str(entry.get("conversationId")), "")
        else:
            token = next(iter(entry.get("tags", [])), "")
        by_token[token].append(entry)
    return by_token


def _check_request(record: Record, entry: dict[str, Any] | None, verdict: Verdict) -> None:
    """Its ledger entry exists, says what was sent, and has the expected outcome."""
    name = _name(record)
    if record.answer == REFUSED:
        verdict.violations[WRONG].append(f"{name}: a valid request was refused")
        return
    if entry is None:
        verdict.violations[LOST].append(f"{name}: answered {record.answer!r}, not in the ledger")
        return
    if fields := [*_differing_fields(record, entry)]:
        verdict.violations[WRONG].append(f"{name}: the ledger has another {', '.join(fields)}")
        return
    if entry["status"] not in {COMPLETED, FAILED}:
        verdict.violations[LOST].append(f"{name}: still {entry['status']}")
        return
    outcome = COMPLETED if entry["status"] == COMPLETED else entry["error"]["code"]
    verdict.outcomes[outcome] += 1
    if outcome != record.expected:
        verdict.violations[WRONG].append(f"{name}: {outcome} instead of {record.expected}")
    elif outcome == COMPLETED and entry["messageCount"] != record.messages:
        verdict.violations[WRONG].append(f"{name}: {entry['messageCount']} messages instead of {record.messages}")


def _differing_fields(record: Record, entry: dict[str, Any]) -> Iterator[str]:
    """Fields in which the ledger entry differs from what was sent."""
    compared = {
        "organization": (record.organization, entry["organizationId"]),
        "requestId": (record.request_id, entry["requestId"]),
        "contact": (record.contact, entry.get("contactId")),
        "conversation": (record.conversation, entry.get("conversationId")),
        "trigger": (_TRIGGERS[record.channel], entry["trigger"]),
        "quality": (record.quality, entry.get("quality")),
    }
    # None: the driver did not name it, such as a bare XADD's request id or a closing's contact.
    yield from (name for name, (sent, kept) in compared.items() if sent is not None and sent != str(kept))
    if record.message_ids is not None and record.message_ids != [str(key) for key in entry.get("messageIds", ())]:
        yield "messageIds"
    if record.channel != "closing" and entry.get("tags") != [record.token]:
        yield "tags"


def _check_outcome(
    entry: dict[str, Any],
    snapshot: Snapshot | None,
    evidence: Evidence,
    conversations: dict[Any, str | None],
    verdict: Verdict,
) -> None:
    """One snapshot for a completed request, equal to the source; none for any other."""
    name = f"{entry['_id']} ({entry['requestId']})"
    if entry["status"] != COMPLETED:
        if snapshot is not None:
            verdict.violations[DUPLICATES].append(f"{name}: {entry['status']}, and has a snapshot")
    elif entry.get("unchanged"):
        if snapshot is not None:
            verdict.violations[DUPLICATES].append(f"{name}: unchanged, and has a copy")
        if conversations.get(entry["snapshotId"], "") != str(entry.get("conversationId")):
            verdict.violations[LOST].append(f"{name}: unchanged, and its conversation has no earlier snapshot")
    elif snapshot is None:
        verdict.violations[LOST].append(f"{name}: completed, and has no snapshot")
    elif (
        not snapshot.whole
        or snapshot.messages != entry["messageCount"]
        or snapshot.request_id != entry["requestId"]
        or snapshot.organization != str(entry["organizationId"])
    ):
        verdict.violations[WRONG].append(f"{name}: its snapshot belongs to another request or is not whole")
    elif fields := [*_differing_snapshot(entry, snapshot, *evidence.wanted[entry["_id"]])]:
        verdict.violations[WRONG].append(f"{name}: its snapshot has another {', '.join(fields)}")
    if entry.get("unsent") or entry["_id"] in evidence.unsent:
        verdict.violations[MISSING].append(f"{name}: still unsent")


def _differing_snapshot(entry: dict[str, Any], snapshot: Snapshot, digest: str, customer: str) -> Iterator[str]:
    """Fields in which a snapshot differs from the request and from the platform's collections."""
    conversation = str(entry["conversationId"]) if entry.get("conversationId") else None
    compared = {
        "messages": (digest, snapshot.digest),
        "customer": (customer, snapshot.customer),
        "contact": (str(entry["contactId"]), snapshot.contact),
        "conversation": (conversation, snapshot.conversation),
        "tags": (entry.get("tags", []), snapshot.tags),
        "quality": (entry.get("quality"), snapshot.quality),
    }
    yield from (name for name, (expected, actual) in compared.items() if expected != actual)


def _check_events(evidence: Evidence, verdict: Verdict) -> None:
    """Each outcome has its event in the stream, each event id one content, each event an outcome."""
    verdict.events = len(evidence.stream)
    in_stream = Counter(event["id"] for event in evidence.stream)
    verdict.repeated = sum(count > 1 for count in in_stream.values())
    entries = {str(entry["_id"]): entry for entry in evidence.ledger}
    for entry in evidence.ledger:
        if entry["status"] in {COMPLETED, FAILED} and f"{entry['_id']}.{entry['round']}" not in in_stream:
            verdict.violations[MISSING].append(f"{entry['_id']}.{entry['round']} ({entry['requestId']})")
    for key, contents in evidence.seen.items():
        if len(contents) > 1:
            verdict.violations[DIFFER].append(f"{key}: {len(contents)} contents, {contents[0]} {contents[1]}")
        ledger_id, _, round_ = key.partition(".")
        if ledger_id not in entries or int(round_) > entries[ledger_id]["round"]:
            verdict.violations[DIFFER].append(f"{key}: belongs to no outcome")
    for event in evidence.stream:
        ledger_id, _, round_ = event["id"].partition(".")
        entry = entries.get(ledger_id, {})
        if entry and int(round_) == entry["round"] and (expected := _expected(entry)) != (actual := _actual(event)):
            verdict.violations[DIFFER].append(f"{event['id']}: says {actual}, the ledger {expected}")


def _expected(entry: dict[str, Any]) -> dict[str, Any]:
    """The event's content as the ledger entry has it."""
    subject = entry.get("snapshotId") if entry["status"] == COMPLETED else entry["_id"]
    return {
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


def _actual(event: dict[str, Any]) -> dict[str, Any]:
    data = event["data"]
    labels = ("quality", "category", "tags") if event["type"].endswith(COMPLETED) else ()
    return {
        "type": event["type"],
        "subject": event["subject"],
        "messageCount": data.get("messageCount"),
        "code": data.get("error", {}).get("code"),
        **{name: data[name] for name in ("organizationId", "requestId", "contactId", "conversationId", "trigger")},
        **{name: data[name] for name in labels},
    }


def _check_identity(ledger: Sequence[dict[str, Any]], snapshots: Sequence[Snapshot], verdict: Verdict) -> None:
    """Per organization: completed entries with a copy equal the snapshots, and nothing is in flight."""
    statuses: dict[str, Counter[str]] = defaultdict(Counter)
    for entry in ledger:
        copied = entry["status"] == COMPLETED and not entry.get("unchanged") and not entry.get("deletedAt")
        statuses[str(entry["organizationId"])].update([entry["status"], *(["copies"] if copied else [])])
    stored = Counter(snapshot.organization for snapshot in snapshots)
    for organization, counts in statuses.items():
        if counts["copies"] != stored[organization]:
            verdict.violations[IDENTITY].append(
                f"{organization}: {counts['copies']} completed with a copy, {stored[organization]} snapshots"
            )
        if unfinished := counts.total() - counts["copies"] - counts[COMPLETED] - counts[FAILED]:
            verdict.violations[IDENTITY].append(f"{organization}: {unfinished} still in flight")
