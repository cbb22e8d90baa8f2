"""Request + conversation → snapshot. Pure, and the messages are never decoded.

A snapshot is a BSON document whose last element is `messages`, spliced in as the bytes that the server
or `shaping` made, so that thousands of messages cost one copy.
"""

import hashlib
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import bson
from bson import DatetimeMS, ObjectId
from bson.raw_bson import RawBSONDocument

from worker.domain.normalize import describe, order, shape
from worker.errors import EmptyConversation, SnapshotTooLarge

LARGEST = 16 * 1024 * 1024
"""MongoDB's limit of a document. https://www.mongodb.com/docs/manual/reference/limits/"""

_LENGTH = struct.Struct("<i")
_MESSAGES = b"\x04messages\x00"  # an element of type array


@dataclass(frozen=True, slots=True)
class Messages:
    """A conversation's messages as stored: in time order, ties by `_id`."""

    encoded: bytes
    """The BSON of the array."""
    count: int
    started_at: DatetimeMS
    ended_at: DatetimeMS

    @property
    def content_hash(self) -> str:
        """SHA-256, hex, over the BSON bytes of the array."""
        return hashlib.sha256(self.encoded).hexdigest()


@dataclass(frozen=True, slots=True)
class Conversation:
    """What a snapshot is made of: the contact's own fields, and the messages asked for (None: there are none)."""

    contact: Mapping[str, Any]
    messages: Messages | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot ready to be inserted, and what its event says of it."""

    id: ObjectId
    document: RawBSONDocument
    message_count: int
    content_hash: str
    size: int
    """Bytes of BSON."""


def encode_messages(sources: Sequence[Mapping[str, Any]]) -> Messages | None:
    """Source documents, in any order, as a snapshot stores them."""
    if not sources:
        return None
    shaped = [shape(each) for each in sorted(sources, key=order)]
    whole = bson.encode({"messages": shaped})
    return Messages(
        encoded=whole[4 + len(_MESSAGES) : -1],
        count=len(shaped),
        started_at=shaped[0]["timestamp"],
        ended_at=shaped[-1]["timestamp"],
    )


def customer_name(contact: Mapping[str, Any]) -> str:
    """First and last name, trimmed; what there is of them."""
    parts = (describe(contact.get(name)) for name in ("firstName", "lastName"))
    return " ".join(part for part in parts if part)


def assemble(
    request: Mapping[str, Any], conversation: Conversation, now: datetime, supersedes: ObjectId | None = None
) -> Snapshot:
    """The snapshot of a ledger entry.

    Raises EmptyConversation, or SnapshotTooLarge beyond 16 MiB.
    """
    messages = conversation.messages
    if messages is None:
        raise EmptyConversation
    content_hash = messages.content_hash
    head = bson.encode(_fields(request, conversation.contact, messages, content_hash, now, supersedes))
    size = len(head) + len(_MESSAGES) + len(messages.encoded)
    if size > LARGEST:
        raise SnapshotTooLarge(bytes=size, limit=LARGEST)
    document = b"".join((_LENGTH.pack(size), head[4:-1], _MESSAGES, messages.encoded, b"\x00"))
    return Snapshot(request["_id"], RawBSONDocument(document), messages.count, content_hash, size)


def _fields(
    request: Mapping[str, Any],
    contact: Mapping[str, Any],
    messages: Messages,
    content_hash: str,
    now: datetime,
    supersedes: ObjectId | None,
) -> dict[str, Any]:
    """All but `messages`, of DESIGN section 5."""
    return {
        "_id": request["_id"],
        "organizationId": request["organizationId"],
        "userId": request.get("userId"),
        "contactId": request["contactId"],
        "customerName": customer_name(contact),
        "customerPhone": describe(contact.get("phoneNumber")),
        "customerEmail": describe(contact.get("email")),
        "messageCount": messages.count,
        "snapshotDate": now,
        "conversationStartDate": messages.started_at,
        "conversationEndDate": messages.ended_at,
        "notes": request.get("notes"),
        "tags": request.get("tags", []),
        "quality": request.get("quality"),
        "category": request.get("category"),
        "isArchived": False,
        "requestId": request["requestId"],
        "conversationId": request.get("conversationId"),
        "trigger": request["trigger"],
        "supersedes": supersedes,
        "contentHash": content_hash,
        "createdAt": now,
        "updatedAt": now,
        "__v": 0,
    }
