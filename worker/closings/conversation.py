"""Reads from a conversation's fields whether it is closed, and derives the request id of its closing."""

from datetime import datetime

from bson import ObjectId

from worker.clock import milliseconds
from worker.stores.connections import Document

PREFIX = "resolved:"
ID_FIELDS = ("_id", "organizationId", "contactId")
_FALSE_TEXTS = frozenset({"", "0", "false", "no"})


def closing_prefix(conversation: ObjectId) -> str:
    """Return the common prefix of the request ids of all closings of a conversation."""
    return f"{PREFIX}{conversation}:"


def closing_id(conversation: ObjectId, resolved_at: datetime) -> str:
    """Return the request id of a closing: `resolved:<conversation>:<resolvedAt in ms>`."""
    return f"{closing_prefix(conversation)}{milliseconds(resolved_at)}"


def undated_id(conversation: ObjectId) -> str:
    """Return a substitute for the request id of a closing whose `resolvedAt` is not a date."""
    return f"{closing_prefix(conversation)}undated"


def record_id(conversation: Document) -> str:
    """Return the request id that the closing of a conversation has, or would have if it had a request."""
    resolved_at = conversation.get("resolvedAt")
    if isinstance(resolved_at, datetime):
        return closing_id(conversation["_id"], resolved_at)
    return undated_id(conversation["_id"])


def is_closed(conversation: Document) -> bool:
    """Return whether a conversation is resolved and dated, with fields of the right types. The contact is unchecked."""
    return (
        conversation.get("isResolved") is True
        and isinstance(conversation.get("resolvedAt"), datetime)
        and has_object_ids(conversation)
    )


def type_fault(conversation: Document) -> str | None:
    """Return the reason to skip a conversation that seems resolved but whose fields have a wrong type, or None."""
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
    """Return whether the conversation and its organization have ObjectIds. Otherwise nothing is recorded."""
    return all(isinstance(conversation.get(name), ObjectId) for name in ("_id", "organizationId"))
