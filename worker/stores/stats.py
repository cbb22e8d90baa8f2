"""Figures for operators: counts per organization, whether they add up, and what is waiting.

Every read is served by an index of `worker.stores.indexes`.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, TypeVar

from bson import MinKey, ObjectId
from pymongo.client_session import ClientSession
from pymongo.collection import Collection
from pymongo.errors import OperationFailure

from worker.domain.ledger_entry import DOCTORS_ORGANIZATION, SUMS_WITHOUT_SNAPSHOT, WAITING_SINCE, enqueued_in
from worker.settings import Settings
from worker.stores.connections import Connections, Document, broker_errors, store_errors
from worker.stores.wakeups import REQUEST_QUEUES, UNKNOWN, Queues

_SNAPSHOT_UNAVAILABLE = 246
"""SnapshotUnavailable: a collection or index was created just before the read.
https://www.mongodb.com/docs/manual/reference/error-codes/"""
_ATTEMPTS = 20
_SNAPSHOTS = "snapshots"
"""Stands for a status in a group that counts snapshots instead of requests."""
ANY: Document = {"$gte": MinKey()}
"""Matches every value, so that a read can use an index that begins with the field."""

Result = TypeVar("Result")


# --- the identity -------------------------------------------------------------------------------------


@dataclass(slots=True)
class Identity:
    """The counts of one organization, all taken at one moment."""

    organization: ObjectId
    accepted: int = 0
    completed: int = 0
    failed: int = 0
    in_flight: int = 0
    deleted: int = 0
    """How many completed requests have a snapshot that was deleted later."""
    unchanged: int = 0
    """How many completed requests found an earlier snapshot unchanged."""
    snapshots: int = 0
    """How many documents the snapshots collection has."""

    @property
    def holds(self) -> bool:
        """Whether accepted = completed + failed + in flight, and each completed request has its snapshot."""
        outcomes = self.completed + self.failed + self.in_flight
        return self.accepted == outcomes and self.snapshots == self.completed - self.deleted - self.unchanged


def identities(connections: Connections, organization: ObjectId | None = None) -> list[Identity]:
    """Count all organizations, or one, in full, with an aggregation that takes seconds for a million requests.

    `worker.stores.counts` returns the same counts, and its time does not grow with the ledger.
    """
    return at_one_moment(connections, lambda session: identities_within(connections, session, organization))


def identities_within(
    connections: Connections, session: ClientSession, organization: ObjectId | Document | None = None
) -> list[Identity]:
    """Count all requests in full, as the session's snapshot shows them. `organization`: an id, or a range of ids."""
    found: dict[ObjectId, Identity] = {}
    pipeline = identity_pipeline(connections.settings, organization)
    for group in ledger_documents(connections).aggregate(pipeline, session=session):
        key = group["_id"]
        _add(found.setdefault(key["organization"], Identity(key["organization"])), key["status"], group)
    return [found[key] for key in sorted(found, key=str)]


def sum_of(counted: Iterable[Identity]) -> Identity:
    """Return the sum over organizations. The field `organization` of the result has no meaning."""
    total = Identity(ObjectId("0" * 24))
    for identity in counted:
        for name in ("accepted", "completed", "failed", "in_flight", "deleted", "unchanged", "snapshots"):
            setattr(total, name, getattr(total, name) + getattr(identity, name))
    return total


def worst_first(counted: Iterable[Identity]) -> list[Identity]:
    """Sort organizations: first those whose counts do not add up, then those with the most failures."""
    return sorted(counted, key=lambda identity: (identity.holds, -identity.failed, -identity.in_flight))


def identity_pipeline(names: Settings, organization: ObjectId | Document | None = None) -> list[Document]:
    """Return the aggregation of the ledger that yields `{_id: {organization, status}, count, deleted, unchanged}`.

    One more group per organization counts the snapshots. It reads only indexes, in which absent fields are null.
    """
    of = of_organization(organization)
    key = {"organization": "$organizationId", "status": "$status"}
    ours = {"requestId": {"$gte": ""}}  # the platform may have created others
    of_snapshots = {"organization": "$organizationId", "status": _SNAPSHOTS}
    return [
        {"$match": of | {"status": ANY}},
        {"$group": {"_id": key, "count": {"$sum": 1}, **SUMS_WITHOUT_SNAPSHOT}},
        {
            "$unionWith": {
                "coll": names.snapshots_collection,
                "pipeline": [{"$match": of | ours}, {"$group": {"_id": of_snapshots, "count": {"$sum": 1}}}],
            }
        },
    ]


def of_organization(organization: ObjectId | Document | None) -> Document:
    """Return the MongoDB filter for one organization, a range of organization ids, or all of them (None).

    The doctor's organization is never counted, because its requests are removed again.
    """
    if isinstance(organization, ObjectId):
        return {"organizationId": organization}
    return {"organizationId": {"$ne": DOCTORS_ORGANIZATION, **(organization or ANY)}}


def _add(identity: Identity, status: Any, group: Document) -> None:
    count = group["count"]
    if status == _SNAPSHOTS:
        identity.snapshots = count
        return
    identity.accepted += count
    match status:
        case "completed":
            identity.completed, identity.deleted, identity.unchanged = count, group["deleted"], group["unchanged"]
        case "failed":
            identity.failed = count
        case "accepted":
            identity.in_flight = count
        case _:
            pass  # an unknown status: the identity does not hold


def at_one_moment(connections: Connections, read: Callable[[ClientSession], Result]) -> Result:
    """Call `read` with a snapshot session, whose reads all see the same majority-committed data; return its result.

    Raises StoreUnavailable, StoreConflict.
    """
    with store_errors():
        for attempt in range(_ATTEMPTS):
            try:
                with connections.mongo.start_session(snapshot=True) as session:
                    return read(session)
            except OperationFailure as error:
                if error.code != _SNAPSHOT_UNAVAILABLE or attempt == _ATTEMPTS - 1:
                    raise
                time.sleep(0.05)
    raise AssertionError("unreachable")


# --- backlog ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Backlog:
    """Waiting messages by queue, and when the oldest was published (None if there is none, or if unknown)."""

    lengths: dict[str, int]
    oldest: dict[str, datetime | None]


def oldest_request(connections: Connections, organization: ObjectId | None = None) -> datetime | None:
    """Return when the oldest request in flight began to wait, or None. Ignores requests that are not due."""
    waiting = enqueued_in(REQUEST_QUEUES)
    if organization:
        waiting["organizationId"] = organization
    pipeline: list[Document] = [{"$match": waiting}, {"$group": {"_id": None, "since": {"$min": WAITING_SINCE}}}]
    with store_errors():
        found = list(ledger_documents(connections).aggregate(pipeline))
    return found[0]["since"] if found else None


def newest_event(connections: Connections) -> str:
    """Return the stream id of the newest event, or `-` if there is none. Raises BrokerUnavailable."""
    with broker_errors():
        found: Any = connections.redis.xrevrange(connections.settings.events_stream, count=1)
    return found[0][0].decode() if found else "-"


def backlog(connections: Connections) -> Backlog:
    """Read the backlog. Raises BrokerUnavailable."""
    queues = Queues(connections)
    oldest = {name: queues.oldest_stamp(name) for name in REQUEST_QUEUES}
    return Backlog(queues.lengths(), {name: None if stamp == UNKNOWN else stamp for name, stamp in oldest.items()})


def ledger_documents(connections: Connections) -> Collection[Document]:
    """Return the ledger's collection for aggregations, whose results are other documents than its entries."""
    return connections.database[connections.settings.requests_collection]


def as_fields(identity: Identity) -> dict[str, Any]:
    """Return the identity as a JSON object with camelCase names."""
    fields = asdict(identity)
    organization, in_flight = fields.pop("organization"), fields.pop("in_flight")
    return {"organizationId": organization, **fields, "inFlight": in_flight, "holds": identity.holds}
