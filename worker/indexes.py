"""The indexes, created at start, idempotently. Each says which read it is for."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pymongo.errors import OperationFailure

from worker.connections import Connections, store_errors
from worker.log import get_logger
from worker.settings import Settings

log = get_logger(__name__)

_CONFLICTS = (85, 86)
"""IndexOptionsConflict, IndexKeySpecsConflict: the platform has the same index with another name or options."""


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
    """Those of our own collections."""
    ledger, snapshots = names.requests_collection, names.snapshots_collection
    accepted = {"partialFilterExpression": {"status": "accepted"}}
    return [
        Index(ledger, [("organizationId", 1), ("requestId", 1)], "the idempotency key", {"unique": True}),
        Index(ledger, [("queue", 1), ("enqueuedAt", 1)], "sweep: lost wake-up calls", accepted),
        Index(
            ledger,
            [("notBefore", 1)],
            "sweep: requests that are due",
            {"partialFilterExpression": {"notBefore": {"$exists": True}}},
        ),
        Index(
            ledger,
            [("unsent", 1), ("finishedAt", 1)],
            "sweep: the outbox",
            {"partialFilterExpression": {"unsent": True}},
        ),
        Index(ledger, [("finishedAt", 1)], "events that Redis lost; retention"),
        Index(
            ledger,
            [("sentAt", 1)],
            "events that Redis lost",
            {"partialFilterExpression": {"sentAt": {"$exists": True}}},
        ),
        Index(ledger, [("organizationId", 1), ("status", 1), ("_id", -1)], "status, list, redrive"),
        Index(
            ledger,
            [("error.code", 1), ("finishedAt", -1)],
            "failures by code and time",
            {"partialFilterExpression": {"status": "failed"}},
        ),
        Index(snapshots, [("organizationId", 1), ("createdAt", -1), ("_id", -1)], "list, newest first"),
        Index(snapshots, [("organizationId", 1), ("contactId", 1), ("createdAt", -1)], "list of a contact"),
        Index(snapshots, [("organizationId", 1), ("conversationId", 1), ("createdAt", -1)], "list of a conversation"),
    ]


def source(names: Settings) -> list[Index]:
    """Those that reading the platform's collections needs."""
    messages, conversations = names.messages_collection, names.conversations_collection
    return [
        Index(messages, [("organizationId", 1), ("contactId", 1), ("timestamp", 1)], "all of a contact's messages"),
        Index(messages, [("organizationId", 1), ("conversationId", 1), ("contactId", 1)], "a conversation's messages"),
        Index(conversations, [("organizationId", 1), ("contactId", 1)], "a contact's conversations"),
    ]


def wanted(names: Settings) -> list[Index]:
    """All that `ensure` creates."""
    return own(names) + (source(names) if names.create_source_indexes else [])


def ensure(connections: Connections) -> None:
    """Creates what is missing. Raises StoreUnavailable."""
    for index in wanted(connections.settings):
        with store_errors():
            try:
                connections.database[index.collection].create_index(index.keys, name=index.name, **index.options)
            except OperationFailure as error:
                if error.code not in _CONFLICTS:
                    raise
                log.info("index_there_already", collection=index.collection, keys=dict(index.keys))
