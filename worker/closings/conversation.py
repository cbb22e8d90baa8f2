"""Tells from a conversation's fields whether it is closed, and what the request id of its closing is."""

from datetime import datetime

from bson import ObjectId

from worker.clock import milliseconds
from worker.stores.connections import Document

PREFIX = "resolved:"
ID_FIELDS = ("_id", "organizationId", "contactId")
_FALSE_TEXTS = frozenset({"", "0", "false", "no"})


def closing_prefix(conversation: ObjectId) -> str:
    """Returns the common prefix of the request ids of all closings of a conversation."""
    return f"{PREFIX}{conversation}:"


def closing_id(conversation: ObjectId, resolved_at: datetime) -> str:
    """Returns the request id of a closing."""
    return f"{closing_prefix(conversation)}{milliseconds(resolved_at)}"


def undated_id(conversation: ObjectId) -> str:
    """Returns what stands for the request id of a closing whose `resolvedAt` is not a date."""
    return f"{closing_prefix(conversation)}undated"


def record_id(conversation: Document) -> str:
    """Returns the request id that the closing of a conversation has, or would have."""
    resolved_at = conversation.get("resolvedAt")
    if isinstance(resolved_at, datetime):
        return closing_id(conversation["_id"], resolved_at)
    return undated_id(conversation["_id"])


def is_closed(conversation: Document) -> bool:
    """Whether a conversation is resolved and dated, with fields of the right types."""
    return (
        conversation.get("isResolved") is True
        and isinstance(conversation.get("resolvedAt"), datetime)
        and has_object_ids(conversation)
    )


def type_fault(conversation: Document) -> str | None:
    """Returns the reason to skip a conversation that claims to be resolved in fields of the wrong type."""
    if not has_object_ids(conversation):
        return None
    resolved = conversation.get("isResolved")
    if not isinstance(resolved, bool):
        return "is_resolved_not_boolean" if _looks_true(resolved) else None
    dated = conversation.get("resolvedAt")
    return "resolved_at_not_date" if resolved and dated is not None and not isinstance(dated, datetime) else None


def _looks_true(value: object) -> bool:
    return value.strip().lower() not in _FALSE_TEXTS if isinstance(value, str) else bool(value)


def has_object_ids(conversation: Document) -> bool:
    """Whether the ids that every request names are ObjectIds."""
    return all(isinstance(conversation.get(name), ObjectId) for name in ("_id", "organizationId"))
