"""The indexes, created at start, idempotently. Each says which read it is for."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pymongo.errors import OperationFailure

from worker.log import get_logger
from worker.settings import Settings
from worker.stores.connections import Connections, store_errors

log = get_logger(__name__)

_CONFLICTS = (85, 86)
"""IndexOptionsConflict, IndexKeySpecsConflict: the platform has the same index with another name or options."""

LEFT_OUT_SECONDS = 7 * 86_400
"""A closing that made no snapshot is shown, with the reason, for so long."""


@dataclass(frozen=True)
class Index:
    """One index: its collection, its keys, and what it is for."""

    collection: str
    keys: Sequence[tuple[str, int]]
    purpose: str
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return "snapshots_" + "_".join(key for key, _ in self.keys).replace(".", "_").lstrip("_")


def own(names: Settings) -> list[Index]:
    """Those of our own collections.

    Few on the ledger, because a request's entry changes three times, and each change of an indexed field makes
    MongoDB compute the keys of all its indexes: ten took four times as long as these three.
    """
    ledger, snapshots = names.requests_collection, names.snapshots_collection
    life = ("status", "unsent", "finishedAt", "queue", "enqueuedAt", "notBefore")
    return [
        Index(ledger, [("organizationId", 1), ("requestId", 1)], "the idempotency key", {"unique": True}),
        # Accepted: by queue and time, or by when they are due. Finished: by time, those not sent apart.
        Index(ledger, [(field, 1) for field in life], "sweep, retention, events that Redis lost"),
        Index(
            ledger,
            [("organizationId", 1), ("status", 1), ("_id", -1), ("unchanged", 1), ("deletedAt", 1)],
            "counts by status without reading an entry; list, redrive",
        ),
        Index(names.keys_collection, [("hash", 1)], "an integration key by its hash", {"unique": True}),
        Index(names.policies_collection, [("organizationId", 1)], "an organization has one policy", {"unique": True}),
        Index(names.left_out_collection, [("organizationId", 1), ("reason", 1)], "closings left out, by reason"),
        Index(
            names.left_out_collection,
            [("leftOutAt", 1)],
            "closings left out are forgotten",
            {"expireAfterSeconds": LEFT_OUT_SECONDS},
        ),
        Index(
            snapshots,
            [("organizationId", 1), ("isArchived", 1), ("createdAt", -1), ("_id", -1), ("requestId", 1)],
            "list, newest first; export; count of ours without reading one",
        ),
        *(
            Index(snapshots, [("organizationId", 1), (owner, 1), ("createdAt", -1), ("_id", -1)], f"list of a {name}")
            for owner, name in (("contactId", "contact"), ("conversationId", "conversation"))
        ),
    ]


def source(names: Settings) -> list[Index]:
    """Those that reading the platform's collections needs."""
    messages, conversations = names.messages_collection, names.conversations_collection
    return [
        *(
            Index(messages, [(key, 1) for key in ("organizationId", owner, "timestamp", "_id")], purpose)
            for owner, purpose in (
                ("contactId", "all of a contact's messages in order; those without a contact"),
                ("conversationId", "a conversation's messages in order"),
            )
        ),
        Index(conversations, [("organizationId", 1), ("contactId", 1)], "a contact's conversations"),
        Index(conversations, [("resolvedAt", 1)], "reconcile: closings of the last 48 hours"),
    ]


def wanted(names: Settings) -> list[Index]:
    """All that `ensure` creates."""
    return own(names) + (source(names) if names.create_source_indexes else [])


def ensure(connections: Connections) -> None:
    """Creates what is missing. Raises StoreUnavailable."""
    _create(connections, wanted(connections.settings))


def ensure_key(connections: Connections) -> None:
    """Only the one that no request may be accepted without. Raises StoreUnavailable."""
    _create(connections, own(connections.settings)[:1])


def _create(connections: Connections, these: Sequence[Index]) -> None:
    for index in these:
        with store_errors():
            try:
                connections.database[index.collection].create_index(index.keys, name=index.name, **index.options)
            except OperationFailure as error:
                if error.code not in _CONFLICTS:
                    raise
                log.info("index_there_already", collection=index.collection, keys=dict(index.keys))
