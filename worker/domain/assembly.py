"""Assembles a snapshot from a request and a conversation. Pure.

A snapshot is a BSON document whose last element is `messages`. The array is inserted as encoded bytes, which the server
or `encode_messages` made, and is never decoded here: thousands of messages cost one copy.
"""

import hashlib
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import bson
from bson import DatetimeMS, ObjectId
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.raw_bson import RawBSONDocument

from worker.domain.ledger_entry import LedgerEntry
from worker.domain.normalize import describe, order, shape
from worker.domain.source_fields import OMITTED
from worker.errors import EmptyConversation, SnapshotTooLarge

LARGEST = 16 * 1024 * 1024
"""MongoDB's limit for a document, in bytes. https://www.mongodb.com/docs/manual/reference/limits/"""

_LENGTH = struct.Struct("<i")
_MESSAGES = b"\x04messages\x00"  # an element of type array
_READING: CodecOptions[dict[str, Any]] = CodecOptions(
    datetime_conversion=DatetimeConversion.DATETIME_MS, unicode_decode_error_handler="replace"
)
"""Reads whatever MongoDB may store: any date, and text that is not UTF-8."""


@dataclass(frozen=True, slots=True)
class Messages:
    """A conversation's messages as a snapshot stores them, sorted by time and then by `_id`."""

    encoded: bytes
    """The array as BSON."""
    count: int
    started_at: DatetimeMS
    ended_at: DatetimeMS
    omitted: int | None = None
    """How many deleted and internal messages were omitted, or None if no setting names such a flag."""

    @property
    def content_hash(self) -> str:
        """SHA-256 (hex) of the array's BSON."""
        return hashlib.sha256(self.encoded).hexdigest()


@dataclass(frozen=True, slots=True)
class Conversation:
    """The source of a snapshot, as read from the platform: the contact and the messages."""

    contact: Mapping[str, Any]
    """The contact's name, phone number and email address, as the platform stores them."""
    messages: Messages | None
    """The requested messages; None if there are none."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot that is ready to be inserted, with the facts that its event and its ledger entry need."""

    id: ObjectId
    document: RawBSONDocument
    message_count: int
    content_hash: str
    size: int
    """Size of the document in bytes."""


def encode_messages(sources: Sequence[Mapping[str, Any]], *, count_omitted: bool = False) -> Messages | None:
    """Convert and encode the platform's messages as a snapshot stores them.

    Args:
        sources: The documents of the platform, in any order, with this service's names of the fields.
        count_omitted: Whether the documents have the field `omitted`. Those in which it is true are counted but left
            out.

    Returns:
        The messages, sorted by time and then by `_id`; None if there are none.
    """
    kept = [each for each in sources if not each[OMITTED]] if count_omitted else sources
    if not kept:
        return None
    shaped = [shape(each) for each in sorted(kept, key=order)]
    whole = bson.encode({"messages": shaped})
    return Messages(
        encoded=whole[4 + len(_MESSAGES) : -1],
        count=len(shaped),
        started_at=shaped[0]["timestamp"],
        ended_at=shaped[-1]["timestamp"],
        omitted=len(sources) - len(kept) if count_omitted else None,
    )


def decode_messages(messages: Messages) -> list[dict[str, Any]]:
    """Return the messages as documents."""
    return list(bson.decode(messages.encoded, _READING).values())


def replace_messages(messages: Messages, changed: Mapping[int, Mapping[str, Any]]) -> Messages:
    """Replace some messages, for redaction. The others keep their exact bytes.

    Args:
        messages: The messages of a conversation.
        changed: The new messages, by position from 0. Their times must not differ from the old ones.
    """
    if not changed:
        return messages
    encoded = messages.encoded
    # An element is its type, its position as a string with a final NUL, and a document.
    fresh = bson.encode({str(number): changed[number] for number in sorted(changed)})
    pieces: list[bytes] = []
    kept = place = new = _LENGTH.size
    for number in range(messages.count):
        begin, header = place, 2 + len(str(number))
        place += header + _LENGTH.unpack_from(encoded, begin + header)[0]
        if number in changed:
            end = new + header + _LENGTH.unpack_from(fresh, new + header)[0]
            pieces += encoded[kept:begin], fresh[new:end]
            kept, new = place, end
    array = b"".join([*pieces, encoded[kept:]])
    return replace(messages, encoded=_LENGTH.pack(_LENGTH.size + len(array)) + array)


def hash_of_messages(messages: Sequence[Mapping[str, Any]]) -> str:
    """Return the `contentHash` of the messages of a stored snapshot: SHA-256, hex, of their BSON.

    `messages`: decoded, with the fields in their stored order.
    """
    return hashlib.sha256(bson.encode({"messages": messages})[4 + len(_MESSAGES) : -1]).hexdigest()


def customer_name(contact: Mapping[str, Any]) -> str:
    """Join first and last name, trimmed. Either or both may be missing."""
    parts = (describe(contact.get(name)) for name in ("firstName", "lastName"))
    return " ".join(part for part in parts if part)


def assemble(
    entry: LedgerEntry, conversation: Conversation, now: datetime, supersedes: ObjectId | None = None
) -> Snapshot:
    """Assemble the snapshot of a ledger entry.

    Args:
        entry: The ledger entry, whose `_id` becomes the snapshot's, and whose notes, tags and labels it gets.
        conversation: The contact and the messages, redacted already if the policy says so.
        now: The time of the snapshot, aware, by MongoDB's clock.
        supersedes: The snapshot that this one replaces as the current one of its conversation.

    Raises:
        EmptyConversation: There are no messages.
        SnapshotTooLarge: The document would exceed 16 MiB. `details` has `bytes` and `limit`.
    """
    messages = conversation.messages
    if messages is None:
        raise EmptyConversation
    content_hash = messages.content_hash
    head = bson.encode(_fields(entry, conversation.contact, messages, content_hash, now, supersedes))
    size = len(head) + len(_MESSAGES) + len(messages.encoded)
    if size > LARGEST:
        raise SnapshotTooLarge(bytes=size, limit=LARGEST)
    document = b"".join((_LENGTH.pack(size), head[4:-1], _MESSAGES, messages.encoded, b"\x00"))
    return Snapshot(entry["_id"], RawBSONDocument(document), messages.count, content_hash, size)


def _fields(
    entry: LedgerEntry,
    contact: Mapping[str, Any],
    messages: Messages,
    content_hash: str,
    now: datetime,
    supersedes: ObjectId | None,
) -> dict[str, Any]:
    """Return all fields of the document except `messages`."""
    return {
        "_id": entry["_id"],
        "organizationId": entry["organizationId"],
        "userId": entry.get("userId"),
        "contactId": entry["contactId"],
        "customerName": customer_name(contact),
        "customerPhone": describe(contact.get("phoneNumber")),
        "customerEmail": describe(contact.get("email")),
        "messageCount": messages.count,
        "snapshotDate": now,
        "conversationStartDate": messages.started_at,
        "conversationEndDate": messages.ended_at,
        "notes": entry.get("notes"),
        "tags": entry.get("tags", []),
        "quality": entry.get("quality"),
        "category": entry.get("category"),
        "isArchived": False,
        "requestId": entry["requestId"],
        "conversationId": entry.get("conversationId"),
        "trigger": entry["trigger"],
        "supersedes": supersedes,
        "contentHash": content_hash,
        **({} if messages.omitted is None else {"omittedMessageCount": messages.omitted}),
        **({"redaction": entry["redaction"]} if "redaction" in entry else {}),
        "createdAt": now,
        "updatedAt": now,
        "__v": 0,
    }
