"""Reads the source of requests that a test has accepted."""

from typing import Any

import bson
from bson import ObjectId
from bson.codec_options import CodecOptions

from support.ledger import Bench
from worker.domain.assembly import Conversation, Messages
from worker.errors import SnapshotError


def fetched(bench: Bench, *keys: ObjectId) -> dict[ObjectId, Conversation | SnapshotError]:
    return {entry["_id"]: found for entry, found in bench.service.conversations.fetch(bench.service.ledger.load(keys))}


def messages_of(bench: Bench, key: ObjectId) -> Messages | None:
    found = fetched(bench, key)[key]
    assert isinstance(found, Conversation), found
    return found.messages


def contents(bench: Bench, key: ObjectId) -> list[str]:
    messages = messages_of(bench, key)
    if messages is None:
        return []
    decoded: dict[str, dict[str, Any]] = bson.decode(messages.encoded, CodecOptions(tz_aware=True))
    return [each["content"] for each in decoded.values()]
