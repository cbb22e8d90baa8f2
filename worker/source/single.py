"""Reads one owner's messages, converts them in Python instead of on the server, and measures them first."""

from collections.abc import Iterable

from bson import ObjectId

from worker.domain.assembly import LARGEST, Messages, encode_messages
from worker.domain.source_fields import MESSAGE, OMITTED, SourceFields
from worker.errors import SnapshotTooLarge
from worker.source.message_pipeline import MIN_MESSAGE_SIZE, MessagePipeline, array_size
from worker.stores.connections import PLAIN, Connections, Document, store_errors

_HEX_DIGITS = 24


def measure(connections: Connections, condition: Document) -> int:
    """Return the fewest bytes that the matching messages take in a snapshot, or a number above `LARGEST`.

    Stops counting above `LARGEST`, so the time is limited however many messages match. Raises StoreUnavailable,
    StoreConflict.
    """
    messages = connections.database[connections.settings.messages_collection]
    fields = connections.fields.message
    if kept := fields.kept:
        condition = {"$and": [condition, kept]}
    limit = LARGEST // MIN_MESSAGE_SIZE + 1
    with store_errors():
        if (count := messages.count_documents(condition, limit=limit)) == limit:  # from an index alone
            return count * MIN_MESSAGE_SIZE
        (total, *_) = [
            *messages.aggregate([{"$match": condition}, *MessagePipeline(fields).sized(limit)]),
            {"count": 0, "bytes": 0},
        ]
    return array_size(total["count"], total["bytes"])


def read_alone(connections: Connections, condition: Document) -> Messages | SnapshotTooLarge | None:
    """Return the matching messages, converted in Python; None if there are none.

    Raises StoreUnavailable, StoreConflict.
    """
    messages = connections.database[connections.settings.messages_collection].with_options(codec_options=PLAIN)
    with store_errors(), messages.find(condition, message_fields(connections.fields)) as cursor:
        found = read_bounded(cursor)
    return found if isinstance(found, SnapshotTooLarge) else encode(connections.fields, found)


def message_fields(fields: SourceFields) -> Document:
    """Return the projection to the fields of a message that a snapshot or its checks need."""
    return fields.message.projection(MESSAGE)


def encode(fields: SourceFields, messages: list[Document]) -> Messages | None:
    """Encode messages that were read with the projection `message_fields`. Returns None if there are none."""
    return encode_messages(messages, count_omitted=fields.message.omitted is not None)


def read_bounded(messages: Iterable[Document]) -> list[Document] | SnapshotTooLarge:
    """Collect messages, or return SnapshotTooLarge as soon as they do not fit into a snapshot."""
    found: list[Document] = []
    size = 0
    for message in messages:
        found.append(message)
        size += _least_size(message)
        if size > LARGEST:
            return SnapshotTooLarge(limit=LARGEST)
    return found


def _least_size(message: Document) -> int:
    """Return the fewest bytes that a message takes in a snapshot."""
    if message.get(OMITTED):
        return 0
    content, key = message.get("content"), message["_id"]
    size = MIN_MESSAGE_SIZE + (len(content.encode()) if isinstance(content, str) else 0)
    return size + (_HEX_DIGITS if isinstance(key, ObjectId) else 0)
