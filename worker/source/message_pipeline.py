"""Whole conversations in one aggregation: the server shapes, sorts and groups messages into stored bytes.

Two ways to sort. In index order is the faster by a third, but fits only messages that have a `timestamp`;
in computed order fits those that have `createdAt`, too. What neither fits is told apart (`odd`).
"""

import struct
from collections.abc import Callable
from typing import Any

from bson import DatetimeMS, ObjectId
from bson.raw_bson import RawBSONDocument

from worker.domain.assembly import Messages
from worker.domain.normalize import SERVER_SENDER, SERVER_SENDER_TYPE, SERVER_SHAPE
from worker.stores.connections import Document

Stages = Callable[[str], list[Document]]
"""From the field that owns messages (`contactId` or `conversationId`) to the stages behind the `$match`."""

# What `_group` gives, byte by byte: every element before `messages` has a fixed size.
_LAYOUT = struct.Struct("<i 5s12s 7si 11sq 9sq 5si 10s")
_COUNT = b"\x10count\x00"
_NAMES = (b"\x07_id\x00", _COUNT, b"\x09startedAt\x00", b"\x09endedAt\x00", b"\x10odd\x00")
_MESSAGES = b"\x04messages\x00"
_ID_ENDS = struct.calcsize("<i 5s12s")


def in_index_order(key: str) -> list[Document]:
    """Read in the order of an index on `timestamp`."""
    types = {
        "$_id": "objectId",
        "$content": "string",
        "$timestamp": "date",
    }
    regular = [{"$eq": [{"$type": field}, kind]} for field, kind in types.items()]
    regular += [{"$eq": [{"$type": each}, "string"]} for each in (SERVER_SENDER, SERVER_SENDER_TYPE)]
    return [
        {"$sort": {"organizationId": 1, key: 1, "timestamp": 1, "_id": 1}},
        _group(f"${key}", SERVER_SHAPE, "$timestamp", regular),
    ]


def in_computed_order(key: str) -> list[Document]:
    """Shaped first, sorted then by the time that the shape has."""
    types = {
        "$_id": "objectId",
        "$m.content": "string",
        "$m.timestamp": "date",
        "$m.sender": "string",
        "$m.senderType": "string",
    }
    regular = [{"$eq": [{"$type": field}, kind]} for field, kind in types.items()]
    return [
        {"$project": {"c": f"${key}", "m": SERVER_SHAPE}},
        {"$sort": {"c": 1, "m.timestamp": 1, "_id": 1}},
        _group("$c", "$m", "$m.timestamp", regular),
    ]


def _group(owner: str, message: Any, time: str, regular: list[Document]) -> Document:
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


def is_group(document: RawBSONDocument) -> bool:
    """Whether it is one that `_group` made, odd or not: told by its second element, behind an ObjectId."""
    return bytes(document.raw[_ID_ENDS : _ID_ENDS + len(_COUNT)]) == _COUNT


def read_group(group: RawBSONDocument) -> tuple[ObjectId, Messages] | None:
    """Owner and messages of one group; None where a message in it is odd."""
    raw = group.raw
    if len(raw) < _LAYOUT.size:
        return None
    (_, *pairs, last) = _LAYOUT.unpack_from(raw)
    if tuple(pairs[::2]) != _NAMES or last != _MESSAGES:
        return None
    owner, count, started_at, ended_at, odd = pairs[1::2]
    if odd:
        return None
    return ObjectId(owner), Messages(bytes(raw[_LAYOUT.size : -1]), count, DatetimeMS(started_at), DatetimeMS(ended_at))
