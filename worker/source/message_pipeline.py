"""Aggregation stages with which the server converts, sorts and groups messages into the bytes that a snapshot stores.

There are two ways to sort. Index order is a third faster, but works only for messages that have a `timestamp`; computed
order also works for those that have only `createdAt`. Messages for which neither works are irregular: their group is
marked, read again, and converted in Python (`worker.source.single`).
"""

import struct
from collections.abc import Callable
from typing import Any

from bson import DatetimeMS, ObjectId
from bson.raw_bson import RawBSONDocument

from worker.domain.assembly import Messages
from worker.domain.normalize import ServerShape
from worker.domain.source_fields import MessageFields
from worker.source.ids import id_of
from worker.stores.connections import Document

Stages = Callable[[str], list[Document]]
"""A function from the field that names the owner (`contactId` or `conversationId`) to the stages after the `$match`."""

_COUNT = b"\x10count\x00"
_MESSAGES = b"\x04messages\x00"
_ID_ENDS = struct.calcsize("<i 5s12s")


class _Layout:
    """The bytes of a document of `_group`. Every element before `messages` has a fixed size."""

    def __init__(self, *, counts_omitted: bool) -> None:
        self._struct = struct.Struct(f"<i 5s12s 7si 11sq 9sq 5si {'9si' if counts_omitted else ''} 10s")
        omitted = (b"\x10omitted\x00",) if counts_omitted else ()
        self._names = (b"\x07_id\x00", _COUNT, b"\x09startedAt\x00", b"\x09endedAt\x00", b"\x10odd\x00", *omitted)

    def read(self, raw: bytes | memoryview) -> tuple[ObjectId, Messages] | None:
        """Return the owner and the messages, or None if a message is irregular or the document has another layout."""
        if len(raw) < self._struct.size:
            return None
        (_, *pairs, last) = self._struct.unpack_from(raw)
        if tuple(pairs[::2]) != self._names or last != _MESSAGES:
            return None
        owner, count, started_at, ended_at, irregular, *omitted = pairs[1::2]
        if irregular:
            return None
        encoded = bytes(raw[self._struct.size : -1])
        return ObjectId(owner), Messages(encoded, count, DatetimeMS(started_at), DatetimeMS(ended_at), *omitted)


MIN_MESSAGE_SIZE = 80
"""Minimum size of a message in a snapshot, in bytes: five named fields, a date, and a key of the array."""
_KEY_SIZE = 2
"""Bytes of a key in an array, besides its digits."""


class MessagePipeline:
    """The stages for the fields of one platform."""

    def __init__(self, fields: MessageFields) -> None:
        self._fields = fields
        self._shape = ServerShape(fields)
        self._layout = _Layout(counts_omitted=fields.omitted is not None)
        # Built once for each owner: building them for every chunk would cost as much as sending them.
        self._index_order: dict[str, list[Document]] = {}
        self._computed_order: dict[str, list[Document]] = {}

    def in_index_order(self, key: str) -> list[Document]:
        """Read in the order of the index on the owner and `timestamp`."""
        if key not in self._index_order:
            self._index_order[key] = self._in_index_order(key)
        return self._index_order[key]

    def _in_index_order(self, key: str) -> list[Document]:
        time = self._fields.expression("timestamp")
        order = [self._fields[name] for name in ("organizationId", key, "timestamp")]
        return [
            {"$sort": {**dict.fromkeys(order, 1), "_id": 1}},
            self._group(f"${self._fields[key]}", self._shape.message, time, self._regular(time), self._fields.omitted),
        ]

    def in_computed_order(self, key: str) -> list[Document]:
        """Convert the messages first, then sort by the time in the result."""
        if key not in self._computed_order:
            self._computed_order[key] = self._in_computed_order(f"${self._fields[key]}")
        return self._computed_order[key]

    def in_computed_order_of_text_ids(self, key: str) -> list[Document]:
        """Do what `in_computed_order` does, for owners whose ids some messages store as text.

        Both kinds of messages form one group.
        """
        return self._in_computed_order(id_of(f"${self._fields[key]}"))

    def _in_computed_order(self, owner: Any) -> list[Document]:
        types = {
            "$_id": "objectId",
            "$m.content": "string",
            "$m.timestamp": "date",
            "$m.sender": "string",
            "$m.senderType": "string",
        }
        omitted = self._fields.omitted
        regular = [{"$eq": [{"$type": field}, kind]} for field, kind in types.items()]
        return [
            {"$project": {"c": owner, "m": self._shape.message, **({"o": omitted} if omitted else {})}},
            {"$sort": {"c": 1, "m.timestamp": 1, "_id": 1}},
            self._group("$c", "$m", "$m.timestamp", regular, "$o" if omitted else None),
        ]

    def sized(self, limit: int) -> list[Document]:
        """Count messages, and the fewest bytes that they take in a snapshot, not counting the keys of the array.

        Reads no more than `limit` messages.
        """
        regular = {"$and": self._regular(self._shape.time)}
        size = {"$cond": [regular, {"$bsonSize": self._shape.message}, MIN_MESSAGE_SIZE - _KEY_SIZE - 1]}
        return [{"$limit": limit}, {"$group": {"_id": None, "count": {"$sum": 1}, "bytes": {"$sum": size}}}]

    def _regular(self, time: Any) -> list[Document]:
        """Return the conditions under which the server converts a message correctly.

        `time`: the expression for its time.
        """
        strings = (self._fields.expression("content"), self._shape.sender, self._shape.sender_type)
        return [
            {"$eq": [{"$type": "$_id"}, "objectId"]},
            {"$eq": [{"$type": time}, "date"]},
            *({"$eq": [{"$type": field}, "string"]} for field in strings),
        ]

    def _group(self, owner: Any, message: Any, time: str, regular: list[Document], omitted: Any) -> Document:
        if omitted is None:
            return {
                "$group": {
                    "_id": owner,
                    "count": {"$sum": 1},
                    "startedAt": {"$first": time},
                    "endedAt": {"$last": time},
                    "odd": {"$sum": {"$cond": [{"$and": regular}, 0, 1]}},
                    "messages": {"$push": message},
                }
            }
        # Omitted messages have to be counted, so a filter before the group would not do.
        dated = {"$cond": [omitted, None, time]}
        return {
            "$group": {
                "_id": owner,
                "count": {"$sum": {"$cond": [omitted, 0, 1]}},
                "startedAt": {"$min": dated},
                "endedAt": {"$max": dated},
                "odd": {"$sum": {"$cond": [{"$or": [omitted, {"$and": regular}]}, 0, 1]}},
                "omitted": {"$sum": {"$cond": [omitted, 1, 0]}},
                "messages": {"$push": {"$cond": [omitted, "$$REMOVE", message]}},
            }
        }

    def read_group(self, group: RawBSONDocument) -> tuple[ObjectId, Messages] | None:
        """Return the owner and messages of a group, or None if one of the messages is irregular or all are omitted."""
        return self._layout.read(group.raw)


def array_size(count: int, messages: int) -> int:
    """Return the size in bytes of an array of `count` messages that take `messages` bytes without their keys."""
    digits = count + sum(count - int(10**power) for power in range(1, len(str(count))))
    return messages + digits + _KEY_SIZE * count


def is_group(document: RawBSONDocument) -> bool:
    """Return whether a document comes from `_group`: its second element, after an ObjectId, is `count`."""
    return bytes(document.raw[_ID_ENDS : _ID_ENDS + len(_COUNT)]) == _COUNT
