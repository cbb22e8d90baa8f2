"""Gathers what is left after a run: ledger, snapshots, streams, and what driver, consumer and witness recorded."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bson
import pymongo
from bson import ObjectId
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo.read_concern import ReadConcern

from chaos.intake_losses import Loss
from chaos.journal import Record, read, tokens_in
from chaos.source import Source, digest, milliseconds
from worker.settings import Settings
from worker.stores.stats import Identity

_LEDGER_FIELDS = (
    *("organizationId", "requestId", "status", "round", "snapshotId", "error", "unsent", "unchanged", "deletedAt"),
    *("acceptedAt", "finishedAt", "conversationId", "contactId", "messageIds", "trigger", "tags", "quality"),
    *("category", "messageCount", "swept"),
)


@dataclass
class Snapshot:
    """The checked part of a snapshot."""

    id: Any
    organization: str
    request_id: str
    contact: str
    conversation: str | None
    customer: str
    tags: list[str]
    messages: int
    digest: str
    """Over the ids, texts, senders and times of its messages, in their order."""
    whole: bool
    """Whether `messageCount` and `contentHash` are those of its messages."""
    quality: str | None = None


@dataclass
class Evidence:
    """Everything, read at majority from the primary."""

    records: dict[str, Record]
    ledger: list[dict[str, Any]]
    snapshots: list[Snapshot]
    stream: list[dict[str, Any]]
    """The events that are in the stream at the end."""
    seen: dict[str, list[str]]
    """Event id → its different contents, in the stream or seen by the consumer."""
    first_seen: dict[str, float] = field(default_factory=dict)
    """Event id → when the consumer had it first, in seconds since 1970."""
    wanted: dict[Any, tuple[str, str]] = field(default_factory=dict)
    """Completed ledger entry → digest and customer of its snapshot, according to the platform's collections."""
    unsent: Set[Any] = frozenset()
    """Completed ledger entries that are named in the outbox."""
    rejected: Sequence[str] = ()
    """Tokens of requests in the stream of rejected entries, where no valid request may be."""
    rejections: int = 0
    """Entries in that stream: those that faults added."""
    seen_in_stream: Mapping[str, str] = field(default_factory=dict)
    """Token → id of its entry in the intake stream, for those that the witness saw."""
    taken: Set[str] = frozenset()
    """Tokens of the Celery messages that a worker has taken: see `chaos.taken`."""
    erasing_ledger: Sequence[dict[str, Any]] = ()
    """The entries of the organization whose contacts are erased, which are in no other field."""
    erasing_snapshots: Sequence[Snapshot] = ()
    left_of_erased: Sequence[str] = ()
    """What is wrong with the erasures."""
    kept: Sequence[Identity] | None = None
    """The kept counts; None if the run did not settle."""
    wrong_counts: Sequence[str] = ()
    """What sweeps found wrong with them."""
    losses: Sequence[Loss] = ()
    """When Redis lost entries of the intake stream, and which it can have been."""


def gather(
    settings: Settings,
    journal: Path,
    events: Path,
    seen_in_stream: Mapping[str, str],
    losses: Sequence[Loss],
    erasing: ObjectId,
) -> Evidence:
    """Reads everything. `erasing`: the organization whose contacts are erased. Raises PyMongoError, RedisError."""
    majority = ReadConcern("majority")
    with pymongo.MongoClient[Any](settings.mongo_url, tz_aware=True) as mongo:
        database = mongo[settings.mongo_database]
        ledger = database[settings.requests_collection].with_options(read_concern=majority)
        everything = list(ledger.find({}, dict.fromkeys(_LEDGER_FIELDS, 1)))
        entries = [entry for entry in everything if entry["organizationId"] != erasing]
        raw = database.get_collection(
            settings.snapshots_collection, CodecOptions(document_class=RawBSONDocument), read_concern=majority
        )
        snapshots = [_snapshot(document) for document in raw.find({})]
        source = Source(database)
        completed = (entry for entry in entries if entry["status"] == "completed")
        outbox = database[settings.outbox_collection].with_options(read_concern=majority)
        unsent = {key for decision in outbox.find({}) for key in decision["requests"]}
        wanted = {entry["_id"]: (source.digest_of(entry), source.name_of(entry)) for entry in completed}
    stream = [json.loads(fields[b"event"]) for fields in _entries(settings, settings.events_stream)]
    stream = [event for event in stream if _is_checked(event, erasing)]
    contents: dict[str, set[str]] = {}
    first_seen: dict[str, float] = {}
    with events.open() as lines:
        for line in lines:
            kept = json.loads(line)
            event = kept["event"]
            if not _is_checked(event, erasing):
                continue
            contents.setdefault(event["id"], set()).add(_canonical(event))
            first_seen.setdefault(event["id"], kept["at"])
    for event in stream:
        contents.setdefault(event["id"], set()).add(_canonical(event))
    rejections = list(_entries(settings, settings.rejected_stream))
    return Evidence(
        records=read(journal),
        ledger=entries,
        snapshots=[each for each in snapshots if each.organization != str(erasing)],
        erasing_ledger=[entry for entry in everything if entry["organizationId"] == erasing],
        erasing_snapshots=[each for each in snapshots if each.organization == str(erasing)],
        stream=stream,
        seen={key: sorted(texts) for key, texts in contents.items()},
        first_seen=first_seen,
        wanted=wanted,
        unsent=unsent,
        rejected=[token for fields in rejections for token in _tokens(fields)],
        rejections=len(rejections),
        seen_in_stream=seen_in_stream,
        losses=losses,
    )


def _is_checked(event: Mapping[str, Any], erasing: ObjectId) -> bool:
    """Whether it is the event of a request, and no contact of its organization is erased."""
    return str(event["type"]).startswith("training.snapshot.") and str(event["data"]["organizationId"]) != str(erasing)


def _entries(settings: Settings, stream: str) -> Iterator[dict[bytes, bytes]]:
    """The fields of all entries of a stream, in pages: some are large."""
    with settings.redis.client(socket_timeout=30) as broker:
        after = "-"
        while page := broker.xrange(stream, min=after, count=1000):
            for key, fields in page:
                yield fields
                after = f"({key.decode()}"


def _tokens(fields: Mapping[bytes, bytes]) -> set[str]:
    # Quotes may be escaped: an entry's fields are JSON within JSON.
    return {token for value in fields.values() for token in tokens_in(value.replace(b"\\", b""))}


def _canonical(event: Mapping[str, Any]) -> str:
    return json.dumps(event, sort_keys=True)


def _snapshot(raw: RawBSONDocument) -> Snapshot:
    messages: Any = raw["messages"]
    array = bson.encode({"messages": messages})
    # Without the document's length, the field's type and name, and the final zero.
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
        digest=digest(
            (message["id"], message["content"], message["sender"], milliseconds(message["timestamp"]))
            for message in messages
        ),
        whole=whole,
        quality=raw.get("quality"),
    )
