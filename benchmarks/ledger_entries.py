"""Fills a ledger, with several processes, as it looks after two months: mostly completed, some failed, a few open."""

import random
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime, timedelta
from multiprocessing import get_context
from typing import Any

import pymongo
from bson import ObjectId

from worker.settings import Settings
from worker.stores.connections import Connections

Document = dict[str, Any]
_BATCH = 5_000
_OLDEST, _NEWEST = timedelta(days=80), timedelta(days=10)
"""Younger than what retention strips, and older than the events that a first sweep repeats."""
_RECENT = timedelta(minutes=55)
"""One entry in a thousand finished in this time, so that charts of the last hour show something."""
_CODES = ("empty_conversation", "contact_not_found", "messages_not_found", "worker_lost")
_CODE_WEIGHTS = (70, 20, 9, 1)
_OPLOG_MB = 990.0


def fill(connections: Connections, entries: int, organizations: int, processes: int) -> int:
    """Add entries, with the snapshots of completed ones, until there are `entries`; return how many were added.

    Removes the indexes first: `indexes.ensure` builds them in half of the time that keeping them up to date takes.
    """
    names, database = connections.settings, connections.database
    ledger, snapshots = database[names.requests_collection], database[names.snapshots_collection]
    known = ledger.estimated_document_count()
    if known >= entries:
        return 0
    connections.mongo.admin.command("replSetResizeOplog", 1, size=_OPLOG_MB)
    for collection in (ledger, snapshots):
        if collection.estimated_document_count():
            collection.drop_indexes()
    firsts = range(known, entries, _BATCH)
    now = connections.clock.now()
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        orders = ((names, now, first, min(first + _BATCH, entries), entries, organizations) for first in firsts)
        for done in [pool.submit(_insert, *order) for order in orders]:
            done.result()
    return entries - known


def _insert(names: Settings, now: datetime, first: int, end: int, entries: int, organizations: int) -> None:
    database = _client(names.mongo_url)[names.mongo_database]
    made = list(_entries(now, range(first, end), entries, organizations))
    database[names.requests_collection].insert_many(made, ordered=False)
    copies = [_copy(each) for each in made if each.get("snapshotId") == each["_id"] and "deletedAt" not in each]
    database[names.snapshots_collection].insert_many(copies, ordered=False)


_clients: dict[str, "pymongo.MongoClient[Document]"] = {}


def _client(url: str) -> "pymongo.MongoClient[Document]":
    """Return the client of this process. Its writes are not awaited on the disk: a lost ledger is filled again."""
    if url not in _clients:
        _clients[url] = pymongo.MongoClient(url, w=1)
    return _clients[url]


def _entries(now: datetime, numbers: range, entries: int, organizations: int) -> Iterator[Document]:
    """Yield entries in order of time. A few organizations have many of them: the largest of 5,000 has 6 %."""
    dice = random.Random(numbers.start)
    for number in numbers:
        place = int(organizations * dice.random() ** 3)
        at = now - _OLDEST + (_OLDEST - _NEWEST) * (number / entries)
        if number % 1000 == 999:
            at = now - _RECENT * dice.random()
        key = ObjectId(int(at.timestamp()).to_bytes(4) + dice.randbytes(8))
        entry: Document = {
            "_id": key,
            "organizationId": organization(place),
            "contactId": ObjectId(dice.randbytes(12)),
            "conversationId": ObjectId(dice.randbytes(12)),
            "tags": ["refund"],
            "quality": "good",
            "requestId": f"resolved:{dice.randbytes(12).hex()}",
            "bodyHash": dice.randbytes(32).hex(),
            "trigger": ("api", "stream", "conversation.resolved")[number % 3],
            "status": "completed",
            "round": 0,
            "acceptedAt": at,
        }
        yield _open(entry, now, number) if number % 20_000 == 0 else _finished(entry, at, dice)


def _open(entry: Document, now: datetime, number: int) -> Document:
    """Half of them wait for a worker, half for their time."""
    if number % 40_000:
        return entry | {"status": "accepted", "acceptedAt": now, "enqueuedAt": now, "queue": "snapshots.bulk"}
    return entry | {"status": "accepted", "acceptedAt": now, "notBefore": now + timedelta(days=1)}


def _finished(entry: Document, at: datetime, dice: random.Random) -> Document:
    ended = at + timedelta(seconds=dice.random())
    entry |= {"queue": "snapshots", "enqueuedAt": at, "finishedAt": ended}
    kind = dice.random()
    if kind < 0.04:
        (code,) = dice.choices(_CODES, _CODE_WEIGHTS)
        return entry | {"status": "failed", "error": {"code": code, "message": "It failed.", "details": {}}}
    entry |= {"snapshotId": entry["_id"], "messageCount": 20}
    if kind < 0.05:
        return entry | {"snapshotId": ObjectId(dice.randbytes(12)), "unchanged": True}
    return entry | {"deletedAt": ended + timedelta(days=1)} if kind < 0.053 else entry


def _copy(entry: Document) -> Document:
    """A snapshot without what nothing here reads."""
    kept = ("_id", "organizationId", "requestId")
    return {**{name: entry[name] for name in kept}, "isArchived": False, "createdAt": entry["finishedAt"]}


def organization(place: int) -> ObjectId:
    """Return the id of an organization by its place; the first have the most entries."""
    return ObjectId(place.to_bytes(12))
