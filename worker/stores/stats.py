"""What operators watch: counts per organization, whether they add up, and what waits.

Every read is served by an index of `indexes`.
"""

import time
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from bson import MinKey, ObjectId
from pymongo.collection import Collection
from pymongo.errors import OperationFailure
from pymongo.read_concern import ReadConcern

from worker.domain.requests import ACCEPTED
from worker.settings import Settings
from worker.stores.connections import Connections, Document, broker_errors, store_errors
from worker.stores.wakeups import REQUEST_QUEUES, Queues

_SNAPSHOT_UNAVAILABLE = 246
"""A collection or index was made a moment ago. https://www.mongodb.com/docs/manual/reference/error-codes/"""
_ATTEMPTS = 20
_SNAPSHOTS = "snapshots"
"""In place of a status: the group counts snapshots."""
_ANY: Document = {"$gte": MinKey()}
"""Every value: lets a read use an index that begins with the field."""


# --- the identity -------------------------------------------------------------------------------------


@dataclass(slots=True)
class Identity:
    """An organization's counts, all of one moment."""

    organization: ObjectId
    accepted: int = 0
    completed: int = 0
    failed: int = 0
    in_flight: int = 0
    deleted: int = 0
    """Completed ones whose snapshot was deleted since."""
    unchanged: int = 0
    """Completed ones that found the snapshot there already."""
    snapshots: int = 0
    """Documents in the collection of snapshots."""

    @property
    def holds(self) -> bool:
        """Whether each request has one outcome, and each completed one its snapshot."""
        outcomes = self.completed + self.failed + self.in_flight
        return self.accepted == outcomes and self.snapshots == self.completed - self.deleted - self.unchanged


def identities(connections: Connections, organization: ObjectId | None = None) -> list[Identity]:
    """Of every organization, or of one, counted in one aggregation at read concern `snapshot`."""
    found: dict[ObjectId, Identity] = {}
    for group in _at_one_moment(connections, identity_pipeline(connections.settings, organization)):
        key = group["_id"]
        _add(found.setdefault(key["organization"], Identity(key["organization"])), key["status"], group)
    return [found[key] for key in sorted(found, key=str)]


def identity_pipeline(names: Settings, organization: ObjectId | None = None) -> list[Document]:
    """Of the ledger: groups `{_id: {organization, status}, count, deleted, unchanged}`, and those of the snapshots.

    An index has all that it reads, and gives null for an absent field.
    """
    of = {"organizationId": organization or _ANY}
    key = {"organization": "$organizationId", "status": "$status"}
    deleted = {"$sum": {"$cond": [{"$gt": ["$deletedAt", None]}, 1, 0]}}
    unchanged = {"$sum": {"$cond": [{"$eq": ["$unchanged", True]}, 1, 0]}}
    ours = {"requestId": {"$gte": ""}}  # the platform may have made others by itself
    of_snapshots = {"organization": "$organizationId", "status": _SNAPSHOTS}
    return [
        {"$match": of | {"status": _ANY}},
        {"$group": {"_id": key, "count": {"$sum": 1}, "deleted": deleted, "unchanged": unchanged}},
        {
            "$unionWith": {
                "coll": names.snapshots_collection,
                "pipeline": [{"$match": of | ours}, {"$group": {"_id": of_snapshots, "count": {"$sum": 1}}}],
            }
        },
    ]


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
            pass  # a state that there is not: it shows as an identity that does not hold


def _at_one_moment(connections: Connections, pipeline: list[Document]) -> list[Document]:
    at_once = _ledger(connections).with_options(read_concern=ReadConcern("snapshot"))
    with store_errors():
        for attempt in range(_ATTEMPTS):
            try:
                return list(at_once.aggregate(pipeline))
            except OperationFailure as error:
                if error.code != _SNAPSHOT_UNAVAILABLE or attempt == _ATTEMPTS - 1:
                    raise
                time.sleep(0.05)
    raise AssertionError("unreachable")


# --- what waits ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits in Redis: messages by queue, and when the oldest of each was published (None where none waits)."""

    lengths: dict[str, int]
    oldest: dict[str, datetime | None]


def oldest_request(connections: Connections, organization: ObjectId | None = None) -> datetime | None:
    """Since when the oldest request in flight has been waiting; those that are not due yet do not wait."""
    # Absent fields by name, as they stand in the index.
    waiting: Document = {"status": ACCEPTED, "unsent": None, "finishedAt": None, "queue": {"$in": list(REQUEST_QUEUES)}}
    if organization:
        waiting["organizationId"] = organization
    since = {"$ifNull": ["$redrivenAt", "$dueAt", "$acceptedAt"]}
    pipeline: list[Document] = [{"$match": waiting}, {"$group": {"_id": None, "since": {"$min": since}}}]
    with store_errors():
        found = list(_ledger(connections).aggregate(pipeline))
    return found[0]["since"] if found else None


def newest_event(connections: Connections) -> str:
    """The stream id of the newest event, or `-` while there is none. Raises BrokerUnavailable."""
    with broker_errors():
        found: Any = connections.redis.xrevrange(connections.settings.events_stream, count=1)
    return found[0][0].decode() if found else "-"


def backlog(connections: Connections) -> Backlog:
    """Raises BrokerUnavailable."""
    queues = Queues(connections)
    return Backlog(queues.lengths(), {name: _known(queues.oldest_stamp(name)) for name in REQUEST_QUEUES})


def _known(stamp: datetime | None) -> datetime | None:
    return None if stamp is None or stamp.year == 1 else stamp


def _ledger(connections: Connections) -> Collection[Document]:
    return connections.database[connections.settings.requests_collection]


def as_fields(identity: Identity) -> dict[str, Any]:
    """The identity with the names that JSON shows."""
    fields = asdict(identity)
    organization, in_flight = fields.pop("organization"), fields.pop("in_flight")
    return {"organizationId": organization, **fields, "inFlight": in_flight, "holds": identity.holds}
