"""The snapshots of `benchmarks.exports`, with a given number of messages each; three in a row are of one contact."""

import gzip
import hashlib
import json
import random
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import bson
from bson import ObjectId
from bson.raw_bson import RawBSONDocument
from pymongo.collection import Collection

from benchmarks.dataset import text

ORGANIZATION = ObjectId(f"{0xA0000000:024x}")
FIRST = ObjectId(f"{1:024x}")
"""The first conversation."""
_BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
_BATCH = 1000
_AHEAD = 4
"""Batches that wait to be stored."""


def texts(folder: Path | None) -> list[str]:
    """Return the texts of the conversations in a folder's JSON Lines files, or generated ones of 120 characters."""
    if folder is None:
        dice = random.Random(1)
        return [text(dice) for _ in range(2000)]
    found: list[str] = []
    for path in sorted([*folder.glob("*.jsonl"), *folder.glob("*.jsonl.gz")]):
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
            for conversation in map(json.loads, lines):
                found += [each["content"] for each in conversation["messages"] if each.get("content")]
    return found


def seed(collection: "Collection[Any]", count: int, messages: int, said: Sequence[str]) -> None:
    """Store the snapshots unless the collection has them already."""
    if collection.count_documents({"organizationId": ORGANIZATION}) == count:
        return
    collection.delete_many({"organizationId": ORGANIZATION})
    with ThreadPoolExecutor(2) as pool:
        stored: list[Future[Any]] = []
        for first in range(0, count, _BATCH):
            batch = list(_snapshots(first, min(first + _BATCH, count), messages, said))
            stored.append(pool.submit(collection.insert_many, batch, ordered=False))
            if len(stored) > _AHEAD:
                stored.pop(0).result()
        for each in stored:
            each.result()


def _snapshots(first: int, end: int, messages: int, said: Sequence[str]) -> Iterator[RawBSONDocument]:
    dice = random.Random(first)
    for number in range(first, end):
        at = _BEGINNING + timedelta(seconds=10 * number)
        place = dice.randrange(len(said))
        turns = [
            {
                "id": f"{number:016x}{turn:08x}",
                "content": said[(place + turn) % len(said)],
                "sender": "user" if turn % 2 else "contact",
                "senderType": "HUMAN" if turn % 2 else "CONTACT",
                "timestamp": at + timedelta(seconds=37 * turn),
            }
            for turn in range(messages)
        ]
        made = at + timedelta(days=1)
        person = number // 3
        document = {
            "_id": ObjectId(f"{number + 1:024x}"),
            "organizationId": ORGANIZATION,
            "userId": None,
            "contactId": ObjectId(f"{person + 1:024x}"),
            "customerName": f"Contact {person}",
            "customerPhone": f"+1555{person:07}",
            "customerEmail": f"c{person}@example.org",
            "messageCount": messages,
            "snapshotDate": made,
            "conversationStartDate": at,
            "conversationEndDate": turns[-1]["timestamp"],
            "notes": "good closing, polite" if number % 3 else None,
            "tags": ["sales", "won"] if number % 2 else [],
            "quality": ("good", "good", "bad", None)[number % 4],
            "category": "closing",
            "isArchived": False,
            "requestId": f"all:{number}",
            "conversationId": ObjectId(f"{number + 1:024x}"),
            "trigger": "backfill",
            "supersedes": None,
            "contentHash": hashlib.sha256(bson.encode({"messages": turns})).hexdigest(),
            "createdAt": made,
            "updatedAt": made,
            "__v": 0,
            "messages": turns,
        }
        yield RawBSONDocument(bson.encode(document))
