"""Decides from the fetched conversations what happens to each request of a run. Pure, without any I/O."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from bson import ObjectId

from worker.domain.assembly import Conversation, Snapshot, assemble
from worker.domain.ledger_entry import LedgerEntry, waiting_since, with_fields
from worker.domain.retries import GiveUp, backoff, may_still_come, next_attempt
from worker.errors import (
    ContactNotFound,
    ConversationNotFound,
    EarlierClosingUndecided,
    ParentMissing,
    PermanentError,
    SnapshotError,
    TransientError,
)
from worker.settings import Settings
from worker.source.conversations import Fetched
from worker.stores.ledger import FailureDecision

_WAITS_LIKE_ATTEMPT = 3
"""A closing that must wait for an earlier one is delayed as long as a request after this many failed attempts."""


@dataclass(frozen=True, slots=True)
class Previous:
    """The snapshot of the last earlier closing of the same conversation that has one."""

    snapshot_id: ObjectId
    content_hash: str | None
    """None if the platform has removed the field; the conversation then counts as changed."""


@dataclass(frozen=True, slots=True)
class Unchanged:
    """The outcome of a closing whose messages equal those of the previous snapshot: it refers to that snapshot."""

    id: ObjectId
    message_count: int


@dataclass(frozen=True, slots=True)
class Completion:
    """The decision to complete a request with its snapshot, or with an unchanged earlier one."""

    entry: LedgerEntry
    snapshot: Snapshot | Unchanged
    redacted: Mapping[str, Any] = field(default_factory=dict)
    """The fields that redaction adds to the entry, or changes."""


@dataclass(frozen=True, slots=True)
class Postponement:
    """Requests to try again together after a delay, and the reason."""

    entries: Sequence[LedgerEntry]
    delay: timedelta
    error: TransientError


@dataclass(frozen=True, slots=True)
class Plan:
    """The decisions of a run: exactly one for each request."""

    snapshots: list[Completion] = field(default_factory=list)
    failures: list[FailureDecision] = field(default_factory=list)
    retries: list[Postponement] = field(default_factory=list)
    """Each of them holds one request, and counts as one of its attempts."""
    waiting: list[Postponement] = field(default_factory=list)
    """Requests that wait for something else, such as an earlier closing. This does not count as an attempt."""


def plan(
    fetched: Iterable[Fetched],
    previous: Mapping[ObjectId, Previous],
    now: datetime,
    settings: Settings,
    redacted: Mapping[ObjectId, Mapping[str, Any]] | None = None,
) -> Plan:
    """Decide what becomes of each request of a run. Pure.

    Args:
        fetched: Each request with its conversation, redacted already, or with the error of fetching it.
        previous: The snapshot of the preceding closing of the same conversation, by the request's `_id`.
        now: The time, by MongoDB's clock.
        settings: How often and how long to try again.
        redacted: The fields of the request that redaction added or changed, by `_id`.

    Returns:
        Exactly one decision for each request: a snapshot, a failure, a retry, or a wait.
    """
    result = Plan()
    followers: list[LedgerEntry] = []
    for entry, found in fetched:
        try:
            if isinstance(found, SnapshotError):
                raise found
            fields = redacted.get(entry["_id"], {}) if redacted else {}
            clean = with_fields(entry, **fields) if fields else entry
            snapshot = _snapshot(clean, found, previous.get(entry["_id"]), now)
            result.snapshots.append(Completion(entry, snapshot, fields))
        except EarlierClosingUndecided:
            followers.append(entry)
        except (ContactNotFound, ConversationNotFound) as error:
            if may_still_come(waiting_since(entry), now, settings):
                _retry(result, entry, _awaited(error), settings)
            else:
                result.failures.append(FailureDecision(entry, error))
        except PermanentError as error:
            result.failures.append(FailureDecision(entry, error))
        except TransientError as error:
            _retry(result, entry, error, settings)
    if followers:
        delay = backoff(_WAITS_LIKE_ATTEMPT, settings)
        result.waiting.append(Postponement(followers, delay, EarlierClosingUndecided()))
    return result


def plan_after_error(entries: Sequence[LedgerEntry], error: TransientError, settings: Settings) -> Plan:
    """Decide what follows an error of a whole attempt.

    Several requests are tried again in halves, until the one at fault is alone; only then do attempts count.
    """
    result = Plan()
    if len(entries) == 1:
        _retry(result, entries[0], error, settings)
    elif entries:
        middle = len(entries) // 2
        for half in (entries[:middle], entries[middle:]):
            result.waiting.append(Postponement(half, settings.retry_floor, error))
    return result


def plan_untried(entries: Sequence[LedgerEntry], error: TransientError, settings: Settings) -> Plan:
    """Postpone requests that the run had no time for."""
    return Plan(waiting=[Postponement(entries, settings.retry_floor, error)] if entries else [])


def _snapshot(
    entry: LedgerEntry, conversation: Conversation, previous: Previous | None, now: datetime
) -> Snapshot | Unchanged:
    snapshot = assemble(entry, conversation, now, previous.snapshot_id if previous else None)
    if previous and previous.content_hash == snapshot.content_hash:
        return Unchanged(previous.snapshot_id, snapshot.message_count)
    return snapshot


def _retry(result: Plan, entry: LedgerEntry, error: TransientError, settings: Settings) -> None:
    """Plan the next attempt of one request, or its failure if it has none left."""
    match next_attempt(error, entry.get("attempts", 0), settings, awaited=entry.get("awaited", 0)):
        case GiveUp(final):
            result.failures.append(FailureDecision(entry, final))
        case retry:
            result.retries.append(Postponement([entry], retry.delay, error))


def _awaited(error: SnapshotError) -> ParentMissing:
    """Return the transient form of the error: the missing document may still come."""
    return ParentMissing(f"{error.message} It may still be created.", awaited=error.code, **error.details)
