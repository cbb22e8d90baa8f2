"""Reads of single requests and snapshots, and lists of requests by filter.

Every read is served by an index of `worker.stores.indexes`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from bson import ObjectId

from worker.domain.ledger_entry import FAILED, FINAL_STATES, REDRIVABLE, STATES, LedgerEntry, finished_in
from worker.errors import NotFound
from worker.stores.connections import Connections, Document, store_errors
from worker.stores.ledger import ledger_of

_CLOCK_SKEW = timedelta(days=1)
"""How wrong the clock of an accepting process may be. The `_id` of an entry begins with its time."""


@dataclass(frozen=True, slots=True)
class RequestFilter:
    """Selects requests of the ledger. All given fields must match; without any, all requests are selected.

    Example:
        RequestFilter(organization, code="retries_exhausted", since=now - timedelta(days=1))
    """

    organization: ObjectId | None = None
    status: str | None = None
    """`accepted`, `completed` or `failed`."""
    code: str | None = None
    """The error code of failed requests."""
    since: datetime | None = None
    """Requests that finished then or later, if finished ones are selected; otherwise those accepted then or later."""
    until: datetime | None = None
    """The latest time, of the same event as `since`."""

    def condition(self) -> Document:
        """Return the filter for the ledger, in a form that an index can serve."""
        status = self.status or (FAILED if self.code else None)
        condition: Document = {}
        if self.organization:
            # All states by name are three ranges of one index, each in order of `_id`.
            condition["organizationId"] = self.organization
            condition["status"] = status or {"$in": list(STATES)}
        elif status:
            condition["status"] = status
        if self.code:
            condition["error.code"] = self.code
        bounds = {"$gte": self.since, "$lte": self.until}
        window = {operator: time for operator, time in bounds.items() if time}
        if window and status in FINAL_STATES:
            # The index that begins with the organization has neither of the other fields.
            condition |= {"finishedAt": window} if self.organization else finished_in(window, status)
        elif window:
            condition["acceptedAt"] = window
            if self.since:
                earliest = max(self.since.timestamp() - _CLOCK_SKEW.total_seconds(), 0)
                condition["_id"] = {"$gte": ObjectId(f"{min(int(earliest), 2**32 - 1):08x}" + 16 * "0")}
        return condition


def list_requests(
    connections: Connections, which: RequestFilter, limit: int, after: ObjectId | None = None
) -> tuple[list[LedgerEntry], ObjectId | None]:
    """Return a page of ledger entries, newest first.

    Args:
        connections: The connections of this process.
        which: The filter.
        limit: Maximum number of entries.
        after: The cursor of the page, which the call for the previous page returned. None: the first page.

    Returns:
        The entries, and the cursor for the next page, or None on the last page.

    Raises:
        StoreUnavailable, StoreConflict: MongoDB cannot be reached or was busy; it is safe to try again.
    """
    condition = which.condition()
    if after:
        condition["_id"] = {**condition.get("_id", {}), "$lt": after}
    with store_errors():
        entries = list(ledger_of(connections).find(condition).sort("_id", -1).limit(limit + 1))
    page = entries[:limit]
    return page, page[-1]["_id"] if len(entries) > limit else None


def request_by_id(connections: Connections, request: ObjectId, organization: ObjectId | None = None) -> LedgerEntry:
    """Return a ledger entry. Raises NotFound, even if it belongs to another organization."""
    return _one(connections, {"_id": request} | ({"organizationId": organization} if organization else {}))


def request_by_key(connections: Connections, organization: ObjectId, request_id: str) -> LedgerEntry:
    """Return a ledger entry by its idempotency key. Raises NotFound."""
    return _one(connections, {"organizationId": organization, "requestId": request_id})


def _one(connections: Connections, condition: Document) -> LedgerEntry:
    with store_errors():
        entry = ledger_of(connections).find_one(condition)
    if entry is None:
        raise NotFound("Request not found.")
    return entry


def snapshot_by_id(
    connections: Connections, snapshot: ObjectId, organization: ObjectId | None = None
) -> Document | None:
    """Return a snapshot, or None if it does not exist or belongs to another organization."""
    condition = {"_id": snapshot} | ({"organizationId": organization} if organization else {})
    with store_errors():
        return connections.database[connections.settings.snapshots_collection].find_one(condition)


# --- redrive ------------------------------------------------------------------------------------------


def count_redrivable(connections: Connections, which: RequestFilter, ids: Sequence[ObjectId] | None = None) -> int:
    """Count the redrivable requests that match the filter and, if `ids` are given, have one of these ids."""
    named = {"_id": {"$in": list(ids)}} if ids else {}
    with store_errors():
        return ledger_of(connections).count_documents(which.condition() | REDRIVABLE | named)


def redrivable(
    connections: Connections, which: RequestFilter, batch: int, ids: Sequence[ObjectId] | None = None
) -> Iterator[Sequence[ObjectId]]:
    """Yield the ids of redrivable requests in batches, each id once, even if the request fails again in the meantime.

    Args:
        connections: The connections of this process.
        which: The filter.
        batch: Maximum number of ids in a batch.
        ids: Only these requests, if any are given.

    Raises:
        StoreUnavailable, StoreConflict: MongoDB cannot be reached or was busy; the ids yielded so far are valid.
    """
    key: Document = {"$in": list(ids)} if ids else {}
    while True:
        condition = which.condition() | REDRIVABLE | ({"_id": key} if key else {})
        with store_errors():
            entries = ledger_of(connections).find(condition, {"_id": 1}).sort("_id", 1).limit(batch)
            page = [entry["_id"] for entry in entries]
        if page:
            yield page
        if len(page) < batch:
            return
        key = {**key, "$gt": page[-1]}
