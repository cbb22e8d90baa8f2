"""What a closing follows: the closing before it, of the same conversation, that has a snapshot."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from bson import ObjectId
from pymongo.read_concern import ReadConcern

from worker.closings.accept import TRIGGER, closing_prefix
from worker.domain.requests import ACCEPTED, COMPLETED
from worker.domain.retries import backoff
from worker.errors import EarlierClosingUndecided
from worker.service import Service
from worker.settings import Settings
from worker.stores.connections import Document, store_errors

Entry = Mapping[str, Any]
_WAITS_LIKE_ATTEMPT = 3


@dataclass(frozen=True, slots=True)
class Previous:
    """The snapshot of the conversation's last closing that has one."""

    snapshot_id: ObjectId
    content_hash: str


@dataclass(frozen=True, slots=True)
class Unchanged:
    """The outcome of a closing whose messages are those of the previous snapshot: that one, and no copy."""

    id: ObjectId
    message_count: int


@dataclass(frozen=True, slots=True)
class Turn:
    """Which entries may run now, what they follow, and which wait for an earlier closing's outcome."""

    ready: list[Entry]
    previous: dict[ObjectId, Previous]
    """By the entry's `_id`; without those that follow nothing."""
    waiting: list[Entry]


def turn(service: Service, entries: Sequence[Entry]) -> Turn:
    """Looks up what the closings among the entries follow: two reads for all of them, none where there are none.

    A snapshot that was deleted is passed over for the one before it. Raises TransientError.
    """
    closings = [each for each in entries if each.get("trigger") == TRIGGER]
    earlier = {each["_id"]: found for each, found in _earlier(service, closings)}
    waiting = [each for each in entries if any(one["status"] == ACCEPTED for one in earlier.get(each["_id"], ()))]
    candidates = {key: _snapshots(found) for key, found in earlier.items()}
    hashes = _hashes(service, {each for ids in candidates.values() for each in ids})
    previous: dict[ObjectId, Previous] = {}
    for key, ids in candidates.items():
        if there := next((each for each in ids if each in hashes), None):
            previous[key] = Previous(there, hashes[there])
    held = {each["_id"] for each in waiting}
    return Turn([each for each in entries if each["_id"] not in held], previous, waiting)


def waits(settings: Settings) -> tuple[EarlierClosingUndecided, timedelta]:
    """Why and how long a closing waits for an earlier one: again and again, until that is decided."""
    return EarlierClosingUndecided(), backoff(_WAITS_LIKE_ATTEMPT, settings)


def _earlier(service: Service, closings: Sequence[Entry]) -> Iterable[tuple[Entry, list[Document]]]:
    """Each closing with the ledger entries of its conversation's earlier ones, the latest first.

    By the request ids, which the ledger keeps when retention strips an entry.
    """
    if not closings:
        return
    owners = {each["conversationId"]: each["organizationId"] for each in closings}
    # A range for each: 200 regular expressions took 500 ms, their ranges 15. `;` is the character behind `:`.
    keys = [
        {"organizationId": organization, "requestId": {"$gte": prefix, "$lt": f"{prefix[:-1]};"}}
        for prefix, organization in ((closing_prefix(key), owner) for key, owner in owners.items())
    ]
    found: dict[tuple[ObjectId, str], list[Document]] = defaultdict(list)
    fields = {"organizationId": 1, "requestId": 1, "status": 1, "snapshotId": 1}
    with store_errors():
        for each in service.ledger.at_majority.find({"$or": keys}, fields):
            found[each["organizationId"], _split(each)[0]].append(each)
    for closing in closings:
        prefix, moment = _split(closing)
        others = [each for each in found[closing["organizationId"], prefix] if _split(each)[1] < moment]
        yield closing, sorted(others, key=lambda each: _split(each)[1], reverse=True)


def _split(entry: Entry) -> tuple[str, int]:
    """A closing's conversation, as in its request id, and its `resolvedAt` in milliseconds."""
    conversation, _, moment = entry["requestId"].rpartition(":")
    return conversation, int(moment)


def _snapshots(earlier: Iterable[Document]) -> list[ObjectId]:
    return [each["snapshotId"] for each in earlier if each["status"] == COMPLETED]


def _hashes(service: Service, snapshots: Iterable[ObjectId]) -> dict[ObjectId, str]:
    """`contentHash` of those that are still there."""
    wanted = list(snapshots)
    if not wanted:
        return {}
    with store_errors():
        at_majority = service.snapshots.collection.with_options(read_concern=ReadConcern("majority"))
        found = at_majority.find({"_id": {"$in": wanted}}, {"contentHash": 1})
        return {each["_id"]: each["contentHash"] for each in found}
