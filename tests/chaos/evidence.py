"""What is left at the end: the ledger, the snapshots, the event stream, the consumer's file, and the driver's."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bson
import pymongo
import redis
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo.read_concern import ReadConcern

from chaos.journal import Record, read
from chaos.source import Source, digest
from worker.settings import Settings

_LEDGER_FIELDS = (
    *("organizationId", "requestId", "status", "round", "snapshotId", "error", "unsent", "unchanged", "deletedAt"),
    *("acceptedAt", "finishedAt", "conversationId", "contactId", "messageIds", "trigger", "tags", "quality"),
    *("category", "messageCount", "swept"),
)


@dataclass
class Snapshot:
    """What is checked of a snapshot."""

    id: Any
    organization: str
    request_id: str
    contact: str
    conversation: str | None
    customer: str
    tags: list[str]
    messages: int
    digest: str
    """Of its messages' ids, texts and senders, in their order."""
    whole: bool
    """`messageCount` and `contentHash` are of the messages that are in it."""


@dataclass
class Evidence:
    """All of it, read at majority from the primary."""

    records: dict[str, Record]
    ledger: list[dict[str, Any]]
    snapshots: list[Snapshot]
    stream: list[dict[str, Any]]
    """Events that are in the stream at the end."""
    seen: dict[str, list[str]]
    """Event id → its different contents, in the stream or seen on the way."""
    first_seen: dict[str, float] = field(default_factory=dict)
    """Event id → when a consumer had it first, in seconds since 1970."""
    wanted: dict[Any, tuple[str, str]] = field(default_factory=dict)
    """Completed ledger entry → digest and customer that its snapshot should have, by the platform's collections."""
    rejected: int = 0
    """Entries that the intake refused; of what is sent here none should be."""


def gather(settings: Settings, book: Path, events: Path) -> Evidence:
    """Raises PyMongoError, RedisError."""
    majority = ReadConcern("majority")
    with pymongo.MongoClient[Any](settings.mongo_url, tz_aware=True) as mongo:
        database = mongo[settings.mongo_database]
        ledger = database[settings.requests_collection].with_options(read_concern=majority)
        entries = list(ledger.find({}, dict.fromkeys(_LEDGER_FIELDS, 1)))
        raw = database.get_collection(
            settings.snapshots_collection, CodecOptions(document_class=RawBSONDocument), read_concern=majority
        )
        snapshots = [_snapshot(each) for each in raw.find({})]
        source = Source(database)
        completed = (each for each in entries if each["status"] == "completed")
        wanted = {each["_id"]: (source.digest_of(each), source.name_of(each)) for each in completed}
    stream = list(_stream(settings))
    contents: dict[str, set[str]] = {}
    first_seen: dict[str, float] = {}
    with events.open() as lines:
        for line in lines:
            kept = json.loads(line)
            event = kept["event"]
            contents.setdefault(event["id"], set()).add(_canonical(event))
            first_seen.setdefault(event["id"], kept["at"])
    for event in stream:
        contents.setdefault(event["id"], set()).add(_canonical(event))
    seen = {key: sorted(found) for key, found in contents.items()}
    return Evidence(read(book), entries, snapshots, stream, seen, first_seen, wanted, _rejected(settings))


def _stream(settings: Settings) -> Iterator[dict[str, Any]]:
    with redis.Redis.from_url(settings.redis_url, socket_timeout=30) as broker:
        after = "-"
        while found := broker.xrange(settings.events_stream, min=after, count=5000):
            for key, fields in found:
                yield json.loads(fields[b"event"])
                after = f"({key.decode()}"


def _rejected(settings: Settings) -> int:
    with redis.Redis.from_url(settings.redis_url, socket_timeout=30) as broker:
        return int(broker.xlen(settings.rejected_stream))


def _canonical(event: Mapping[str, Any]) -> str:
    return json.dumps(event, sort_keys=True)


def _snapshot(raw: RawBSONDocument) -> Snapshot:
    messages: Any = raw["messages"]
    array = bson.encode({"messages": messages})
    # Behind the length, the type, the name; before the end.
    encoded = array[4 + len(b"\x04messages\x00") : -1]
    whole = raw["messageCount"] == len(messages) and raw["contentHash"] == hashlib.sha256(encoded).hexdigest()
    return Snapshot(
        id=raw["_id"],
        organization=str(raw["organizationId"]),
        request_id=raw["requestId"],
        contact=str(raw["contactId"]),
        conversation=str(raw["conversationId"]) if raw.get("conversationId") else None,
        customer=raw["customerName"],
        tags=list(raw["tags"]),
        messages=len(messages),
        digest=digest((each["id"], each["content"], each["sender"]) for each in messages),
        whole=whole,
    )
