"""The ledger entry: the type of a stored request, and the conditions by which code selects entries.

Each condition is defined once, in up to three forms: a MongoDB filter, an aggregation expression, and a predicate on an
entry that was read. Filters also state which fields must be absent (`"unsent": None`). These fields are keys of the
compound index `LIFE` (`worker.stores.indexes`), which stores absent fields as null; the index does not serve a filter
that omits one of them.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, Required, TypedDict, cast

from bson import MinKey, ObjectId

from worker.clock import EPOCH
from worker.errors import ContactErased, SnapshotError

Status = Literal["accepted", "completed", "failed"]

ACCEPTED: Literal["accepted"] = "accepted"
COMPLETED: Literal["completed"] = "completed"
FAILED: Literal["failed"] = "failed"
STATES: tuple[Status, ...] = (ACCEPTED, COMPLETED, FAILED)
"""The states of a request."""
FINAL_STATES: tuple[Status, ...] = (COMPLETED, FAILED)
"""The states of a request that has an outcome."""

Condition = dict[str, Any]
"""A MongoDB filter."""

DOCTORS_ORGANIZATION = ObjectId(b"snap-doctor!")
"""The organization of the test request that `snapshots doctor` sends and removes again. It is not counted."""


class Failure(TypedDict):
    """Why a request failed, or why its last attempt did."""

    code: str
    """One of the codes in `worker.errors`."""
    message: str
    details: dict[str, Any]


class Redaction(TypedDict):
    """The redactions that a policy made in a snapshot."""

    policy: int
    """The version of the policy's redaction."""
    counts: dict[str, int]
    """The number of replacements, by kind. Kinds with 0 are absent."""


class LedgerEntry(TypedDict, total=False):
    """One document of the ledger. Dates are by MongoDB's clock.

    The required fields survive retention (`worker.sweep.retention`). The others are absent where they do not apply,
    once retention has stripped the entry, or where a read did not ask for them.
    """

    _id: Required[ObjectId]
    """Assigned at acceptance. The snapshot gets the same `_id`."""
    organizationId: Required[ObjectId]
    requestId: Required[str]
    """The idempotency key, unique within the organization."""
    bodyHash: Required[str]
    """Hash of the caller's fields: the same key with another hash is a conflict."""
    status: Required[Status]
    round: Required[int]
    """0 at first; each redrive adds one."""

    # The request, as the caller sent it.
    contactId: ObjectId
    erasing: ObjectId
    """Replaces `contactId` once a run has found that the contact is erased. The erasure then removes it."""
    conversationId: ObjectId
    messageIds: list[ObjectId]
    userId: ObjectId
    notes: str
    tags: list[str]
    quality: str
    category: str
    trigger: str
    """The entry point of the request: `worker.domain.requests.Trigger`."""
    traceparent: str
    """The producer's trace, which is sent in the event."""

    # When it runs.
    acceptedAt: datetime
    notBefore: datetime
    """The earliest time to enqueue it. Becomes `dueAt` when it is enqueued."""
    dueAt: datetime
    queue: str
    """The queue of its wake-up. Absent until `notBefore` has passed."""
    enqueuedAt: datetime
    """When its last wake-up was published, or, after a retry, when it is due. NEVER if Redis refused it."""
    redrivenAt: datetime

    # Attempts of this round.
    attempts: int
    """How many attempts of this request failed with a transient error."""
    awaited: int
    """How many of `attempts` failed because the contact or conversation did not exist."""
    lastError: Failure
    swept: int
    """How often the sweep has enqueued it again."""
    sweptBy: str
    """The random id of the sweep that last enqueued it."""
    unended: int
    """How many runs began and did not end, so that this request may have killed their processes."""
    unendedRuns: list[ObjectId]

    # The outcome.
    finishedAt: datetime
    snapshotId: ObjectId
    """The new snapshot or, with `unchanged`, the earlier one that has the same content."""
    messageCount: int
    unchanged: bool
    redaction: Redaction
    """Present if the organization's policy names kinds of personal data to redact."""
    error: Failure
    unsent: bool
    """True while the event may not be in the stream. Absent otherwise, and if `worker.stores.outbox` has the
    decision."""
    sentAt: datetime
    """When the event was emitted. Absent if the outbox had the decision, unless the sweep emitted the event."""
    deletedAt: datetime
    """When the snapshot was deleted."""
    repeats: int
    """How many later requests found this request's snapshot unchanged."""


NEVER = EPOCH
"""The `enqueuedAt` of a request without a wake-up, which the next sweep enqueues."""

ERASING = "erasing"
"""The field `LedgerEntry.erasing`."""
PERSONAL = (
    *("contactId", "conversationId", "messageIds", "userId", "notes", "tags", "quality", "category"),
    *("traceparent", "lastError"),
)
"""The fields that are removed from the entries of an erased contact. Ids, counts and times stay."""

# --- filters --------------------------------------------------------------------------------------------

OPEN: Condition = {"status": ACCEPTED, "unsent": None, "finishedAt": None}
"""Matches requests in flight."""

FINISHED: Condition = {"status": {"$in": list(FINAL_STATES)}}
"""Matches requests that have an outcome, including those that retention has stripped. See `has_event`."""
UNSENT: Condition = {**FINISHED, "unsent": True}
"""Matches finished requests whose event may not have been emitted, according to the entry alone."""
SENT: Condition = {**FINISHED, "unsent": None}

HAS_SNAPSHOT: Condition = {"status": COMPLETED, "unchanged": {"$ne": True}, "deletedAt": None}
"""Matches requests that made a snapshot, which has the entry's `_id`, unless its deletion is recorded."""

NOT_STRIPPED: Condition = {"acceptedAt": {"$exists": True}}
"""Matches entries that retention has not stripped to their key and outcome. See `is_stripped`."""

REDRIVABLE: Condition = {"status": FAILED, "unsent": None, "contactId": {"$exists": True}}
"""Matches failed requests whose event was emitted and which retention has not stripped. See `is_redrivable`."""

SENT_OR_NOT: Condition = {"$in": [None, True]}
"""Matches both values of `unsent` as point ranges, so that an index read stays sorted by `finishedAt`."""
_SENT_OR_NOT_COVERED: Condition = {"$gte": MinKey()}
"""Matches the same as one range, so that a count reads only the index."""


def enqueued_in(queues: str | Sequence[str]) -> Condition:
    """Match requests in flight with a wake-up in one of these queues."""
    return {**OPEN, "queue": queues if isinstance(queues, str) else {"$in": list(queues)}}


def due_by(now: datetime) -> Condition:
    """Match requests in flight that were never enqueued and whose `notBefore` has passed."""
    return {**OPEN, "queue": None, "enqueuedAt": None, "notBefore": {"$lte": now}}


def finished_in(window: Mapping[str, datetime], status: str | None = None) -> Condition:
    """Match requests that finished within a window such as `{"$gte": since}`, for reads sorted by `finishedAt`."""
    return {"status": status or FINISHED["status"], "unsent": SENT_OR_NOT, "finishedAt": dict(window)}


def counted_in(window: Mapping[str, datetime], status: Status | None = None) -> Condition:
    """Match requests that finished within a window. For counts and groups, which then read only the index."""
    return {
        "status": status or FINISHED["status"],
        "unsent": _SENT_OR_NOT_COVERED,
        "finishedAt": dict(window),
    }


# --- aggregation expressions ----------------------------------------------------------------------------

WAITING_SINCE: Condition = {"$ifNull": ["$redrivenAt", "$dueAt", "$acceptedAt"]}
"""`waiting_since` as an expression. Null once retention has stripped the entry."""


MADE_SNAPSHOT: Condition = {"$and": [{"$eq": ["$status", COMPLETED]}, {"$ne": ["$unchanged", True]}]}
"""Whether the request made a snapshot, even if that was deleted."""
SNAPSHOT_EXISTS: Condition = {"$and": [MADE_SNAPSHOT, {"$not": ["$deletedAt"]}]}
"""`HAS_SNAPSHOT` as an expression."""
IS_WHOLE: Condition = {"$gt": ["$acceptedAt", None]}
"""`NOT_STRIPPED` as an expression."""

SUMS_WITHOUT_SNAPSHOT: Condition = {
    "deleted": {"$sum": {"$cond": [{"$gt": ["$deletedAt", None]}, 1, 0]}},
    "unchanged": {"$sum": {"$cond": [{"$eq": ["$unchanged", True]}, 1, 0]}},
}
"""The accumulators that count the completed requests of a group that have no snapshot of their own, by the reason."""


def is_unsent_by(noted: Sequence[datetime]) -> Condition:
    """Return whether the event may be unsent. `noted`: the `finishedAt` of all decisions that are in the outbox."""
    return {"$or": [{"$eq": ["$unsent", True]}, {"$in": ["$finishedAt", list(noted)]}]}


# --- predicates -----------------------------------------------------------------------------------------


def is_open(entry: LedgerEntry) -> bool:
    """Return whether the request has no outcome yet."""
    return entry["status"] == ACCEPTED


def is_stripped(entry: LedgerEntry) -> bool:
    """Return whether retention has stripped the entry to its key and outcome."""
    return "acceptedAt" not in entry


def has_event(entry: LedgerEntry) -> bool:
    """Return whether the entry has an outcome, and all fields of its event because retention has not stripped it."""
    return not is_open(entry) and not is_stripped(entry)


def is_unsent(entry: LedgerEntry) -> bool:
    """Return whether the event of the outcome may be unsent, according to the entry alone."""
    return bool(entry.get("unsent"))


def is_redrivable(entry: LedgerEntry) -> bool:
    """Return whether a redrive would accept it: see `REDRIVABLE`."""
    return entry["status"] == FAILED and not is_unsent(entry) and "contactId" in entry


def groups_by_suspicion(entries: Sequence[LedgerEntry]) -> Iterator[list[LedgerEntry]]:
    """Yield the entries that may run together, the least suspect first.

    A request is a suspect once a run of it began and did not end, because it may have killed the worker. Usually it did
    not. The requests of such a run are therefore run a second time together, without others, and after that each alone.
    """
    once = [entry for entry in entries if entry.get("unended") == 1]
    several = sorted((entry for entry in entries if entry.get("unended", 0) > 1), key=lambda entry: entry["unended"])
    for group in ([entry for entry in entries if not entry.get("unended")], once, *([entry] for entry in several)):
        if group:
            yield group


def waiting_since(entry: LedgerEntry) -> datetime:
    """Return when the request began to wait in this round: its redrive, its due time, or its acceptance."""
    return entry.get("redrivenAt") or entry.get("dueAt") or entry["acceptedAt"]


def as_failed(entry: LedgerEntry, at: datetime, error: SnapshotError) -> LedgerEntry:
    """Return a copy of the entry as failed. If the contact was erased, the copy lacks what the caller sent."""
    removed = PERSONAL if isinstance(error, ContactErased) else ()
    kept = cast("LedgerEntry", {name: value for name, value in entry.items() if name not in removed})
    return with_fields(kept, **failure_fields(at, error))


def failure_fields(at: datetime, error: SnapshotError) -> dict[str, Any]:
    """Return the fields that the decision to fail a request sets."""
    return {"status": FAILED, "finishedAt": at, "unsent": True, "error": error.outcome()}


def with_fields(entry: LedgerEntry, **fields: Any) -> LedgerEntry:
    """Return a copy of the entry with some fields changed."""
    return cast("LedgerEntry", {**entry, **fields})
