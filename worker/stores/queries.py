"""Reads of single requests and snapshots, and of requests by filter. Every read is served by an index of `indexes`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from bson import ObjectId
from pymongo.collection import Collection

from worker.domain.requests import ACCEPTED, COMPLETED, FAILED
from worker.errors import NotFound
from worker.stores.connections import Connections, Document, store_errors

_CLOCKS_APART = timedelta(days=1)
"""An `_id` begins with the time of whoever accepted, by a clock that may be wrong by as much."""
_REDRIVABLE = {"status": FAILED, "unsent": None, "contactId": {"$exists": True}}


@dataclass(frozen=True, slots=True)
class Filter:
    """Which requests. `since` is of the outcome where finished ones are asked for, else of the acceptance."""

    organization: ObjectId | None = None
    status: str | None = None
    code: str | None = None
    since: datetime | None = None

    def condition(self) -> Document:
        """Of the ledger, so that an index serves it, whatever is given."""
        status = self.status or (FAILED if self.code else None)
        condition: Document = {}
        if self.organization:
            # All states by name: three ranges of one index, each in order of `_id`.
            condition["organizationId"] = self.organization
            condition["status"] = status or {"$in": [ACCEPTED, COMPLETED, FAILED]}
        elif status:
            condition["status"] = status
        if self.code:
            condition["error.code"] = self.code
        if self.since and status in {COMPLETED, FAILED}:
            condition["finishedAt"] = {"$gte": self.since}
            if not self.organization:
                condition["unsent"] = {"$in": [None, True]}  # both, for it stands before the time in the index
        elif self.since:
            earliest = max(self.since.timestamp() - _CLOCKS_APART.total_seconds(), 0)
            condition["_id"] = {"$gte": ObjectId(f"{min(int(earliest), 2**32 - 1):08x}" + 16 * "0")}
            condition["acceptedAt"] = {"$gte": self.since}
        return condition


def list_requests(
    connections: Connections, which: Filter, limit: int, after: ObjectId | None = None
) -> tuple[list[Document], ObjectId | None]:
    """Ledger entries, newest first, and the cursor behind which the next page begins (None: there is none)."""
    condition = which.condition()
    if after:
        condition["_id"] = {**condition.get("_id", {}), "$lt": after}
    with store_errors():
        found = list(_ledger(connections).find(condition).sort("_id", -1).limit(limit + 1))
    page = found[:limit]
    return page, page[-1]["_id"] if len(found) > limit else None


def request_by_id(connections: Connections, request: ObjectId, organization: ObjectId | None = None) -> Document:
    """One ledger entry. Raises NotFound, also for another organization's."""
    return _one(connections, {"_id": request} | ({"organizationId": organization} if organization else {}))


def request_by_key(connections: Connections, organization: ObjectId, request_id: str) -> Document:
    """One ledger entry by its idempotency key. Raises NotFound."""
    return _one(connections, {"organizationId": organization, "requestId": request_id})


def _one(connections: Connections, condition: Document) -> Document:
    with store_errors():
        found = _ledger(connections).find_one(condition)
    if found is None:
        raise NotFound("There is no such request.")
    return found


def snapshot_by_id(
    connections: Connections, snapshot: ObjectId, organization: ObjectId | None = None
) -> Document | None:
    """A snapshot's document, or None; another organization's is None too."""
    condition = {"_id": snapshot} | ({"organizationId": organization} if organization else {})
    with store_errors():
        return connections.database[connections.settings.snapshots_collection].find_one(condition)


# --- redrive ------------------------------------------------------------------------------------------


def count_redrivable(connections: Connections, which: Filter, ids: Sequence[ObjectId] | None = None) -> int:
    """Failed requests of the filter (and of `ids`) that can be redriven: sent, and not stripped by retention."""
    named = {"_id": {"$in": list(ids)}} if ids else {}
    with store_errors():
        return _ledger(connections).count_documents(which.condition() | _REDRIVABLE | named)


def redrivable(
    connections: Connections, which: Filter, batch: int, ids: Sequence[ObjectId] | None = None
) -> Iterator[Sequence[ObjectId]]:
    """Their ids, each once, in batches: one that fails again meanwhile does not come again."""
    behind: Document = {"$in": list(ids)} if ids else {}
    while True:
        condition = which.condition() | _REDRIVABLE | ({"_id": behind} if behind else {})
        with store_errors():
            found = _ledger(connections).find(condition, {"_id": 1}).sort("_id", 1).limit(batch)
            page = [each["_id"] for each in found]
        if page:
            yield page
        if len(page) < batch:
            return
        behind = {**behind, "$gt": page[-1]}


def _ledger(connections: Connections) -> Collection[Document]:
    return connections.database[connections.settings.requests_collection]
