"""The indexes that processes create at their start. Each names the reads that it serves."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pymongo.errors import OperationFailure

from worker.domain.source_fields import SourceFields
from worker.log import get_logger
from worker.settings import Settings
from worker.stores.connections import Connections, store_errors

log = get_logger(__name__)

_CONFLICTS = (85, 86)
"""IndexOptionsConflict, IndexKeySpecsConflict: the same index exists with another name or other options."""

_REFUSALS = (13, 67, 166, 171)
"""Unauthorized; CannotCreateIndex: there are 64 already; CommandNotSupportedOnView; CannotIndexParallelArrays.
https://github.com/mongodb/mongo/blob/r6.0.5/src/mongo/base/error_codes.yml"""

LIFE = ("status", "unsent", "finishedAt", "queue", "enqueuedAt", "notBefore")
"""The keys of the index that most reads of the ledger use, from acceptance to retention."""

SKIPPED_SECONDS = 7 * 86_400
"""How long the record of a skipped closing is kept, in seconds."""


@dataclass(frozen=True)
class Index:
    """One index: its collection, its keys and its purpose."""

    collection: str
    keys: Sequence[tuple[str, int]]
    purpose: str
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name in MongoDB: `snapshots_` and the keys, such as `snapshots_organizationId_requestId`."""
        return "snapshots_" + "_".join(key for key, _ in self.keys).replace(".", "_").lstrip("_")


def own_indexes(names: Settings) -> list[Index]:
    """Return the indexes of this service's own collections.

    The ledger has few indexes. An entry changes three times, and each change of an indexed field makes MongoDB compute
    the keys of all indexes: with ten indexes, writes took four times as long as with these three.
    """
    ledger, snapshots = names.requests_collection, names.snapshots_collection
    return [
        Index(ledger, [("organizationId", 1), ("requestId", 1)], "the idempotency key", {"unique": True}),
        # Accepted entries by queue and time or by due time; finished ones by time, unsent ones separately.
        Index(ledger, [(field, 1) for field in LIFE], "sweep, retention, events that Redis lost"),
        Index(
            ledger,
            [("organizationId", 1), ("status", 1), ("_id", -1), ("unchanged", 1), ("deletedAt", 1)],
            "counts by status from the index alone; lists, redrive",
        ),
        Index(names.outbox_collection, [("at", 1)], "sweep: decisions whose events are unsent"),
        # It also creates the collection before the transactions that write to it, which would conflict otherwise.
        Index(
            names.counts_collection,
            [("finishedAt", 1)],
            "changes of counts that are not added yet",
            {"partialFilterExpression": {"finishedAt": {"$exists": True}}},
        ),
        Index(names.keys_collection, [("hash", 1)], "an integration key by its hash", {"unique": True}),
        Index(names.policies_collection, [("organizationId", 1)], "an organization has one policy", {"unique": True}),
        Index(names.left_out_collection, [("organizationId", 1), ("reason", 1)], "skipped closings by reason"),
        Index(
            names.left_out_collection,
            [("leftOutAt", 1)],
            "expiry of skipped closings",
            {"expireAfterSeconds": SKIPPED_SECONDS},
        ),
        Index(
            names.jobs_collection,
            [("status", 1), ("local", 1), ("enqueuedAt", 1)],
            "sweep: unfinished jobs that no slice works on",
        ),
        Index(
            names.jobs_collection,
            [("unsent", 1), ("finishedAt", 1)],
            "sweep: unsent events of jobs",
            {"partialFilterExpression": {"unsent": True}},
        ),
        Index(
            names.exports_collection,
            [("job", 1), ("split", 1), ("shard", 1), ("number", 1)],
            "the snapshots of an export's shard, in order",
        ),
        Index(names.jobs_collection, [("organizationId", 1), ("kind", 1), ("_id", -1)], "lists of jobs, newest first"),
        # Checkpoints have no such field, and stay.
        Index(names.state_collection, [("expiresAt", 1)], "expiry of sessions", {"expireAfterSeconds": 0}),
        Index(
            snapshots,
            [("organizationId", 1), ("isArchived", 1), ("createdAt", -1), ("_id", -1), ("requestId", 1)],
            "lists, newest first; export; counts from the index alone",
        ),
        Index(snapshots, [("organizationId", 1), ("_id", 1)], "exports, in an order that edits do not change"),
        *(
            Index(snapshots, [("organizationId", 1), (owner, 1), ("createdAt", -1), ("_id", -1)], f"list of a {name}")
            for owner, name in (("contactId", "contact"), ("conversationId", "conversation"))
        ),
    ]


def source_indexes(names: Settings) -> list[Index]:
    """Return the indexes that reads of the platform's collections need."""
    messages, conversations = names.messages_collection, names.conversations_collection
    fields = SourceFields(names)
    of_message, of_conversation = fields.message, fields.conversation
    return [
        *(
            Index(
                messages,
                [*((of_message[key], 1) for key in ("organizationId", owner, "timestamp")), ("_id", 1)],
                purpose,
            )
            for owner, purpose in (
                ("contactId", "a contact's messages in order; messages without a contact"),
                ("conversationId", "a conversation's messages in order"),
            )
        ),
        Index(
            conversations,
            [(of_conversation[key], 1) for key in ("organizationId", "contactId")],
            "a contact's conversations",
        ),
        Index(conversations, [(of_conversation["organizationId"], 1), ("_id", 1)], "a backfill's order"),
        Index(conversations, [(of_conversation["resolvedAt"], 1)], "reconcile: closings of the last 48 hours"),
    ]


def required_indexes(names: Settings) -> list[Index]:
    """Return all indexes that `ensure` creates."""
    return own_indexes(names) + (source_indexes(names) if names.create_source_indexes else [])


def ensure(connections: Connections) -> None:
    """Create the missing indexes. Raises StoreUnavailable or StoreConflict."""
    missing = required_indexes(connections.settings)
    while missing:
        ensure_first(connections, missing)


def ensure_key(connections: Connections) -> None:
    """Create only the unique index on the idempotency key, which accepting requests depends on.

    Raises StoreUnavailable or StoreConflict.
    """
    ensure_first(connections, own_indexes(connections.settings)[:1])


def ensure_policies(connections: Connections) -> None:
    """Create only the unique index of policies: without it, concurrent calls could create two for one organization.

    Raises StoreUnavailable or StoreConflict.
    """
    names = connections.settings
    ensure_first(connections, [each for each in own_indexes(names) if each.collection == names.policies_collection])


def ensure_first(connections: Connections, missing: list[Index]) -> None:
    """Create the first of the missing indexes and remove it from the list.

    If MongoDB refuses an index on one of the platform's collections, continue without it: reads are then slower. Raises
    StoreUnavailable or StoreConflict.
    """
    index = missing[0]
    with store_errors():
        try:
            connections.database[index.collection].create_index(index.keys, name=index.name, **index.options)
        except OperationFailure as error:
            if error.code in _CONFLICTS:
                log.info("index_exists_already", collection=index.collection, keys=dict(index.keys))
            elif error.code in _REFUSALS and index in source_indexes(connections.settings):
                log.warning(
                    "source_index_refused",
                    collection=index.collection,
                    keys=dict(index.keys),
                    reason=(error.details or {}).get("codeName"),
                    hint="Create it by hand, or set SNAPSHOTS_CREATE_SOURCE_INDEXES=false.",
                )
            else:
                raise
    missing.pop(0)
