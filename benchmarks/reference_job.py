"""The job in plain PyMongo: snapshot and outbox entry in one transaction.

`one` reads contact and messages and shapes them in Python; `chunk` has 100 at a time shaped by the server,
whose bytes it stores undecoded. The same work as the peers' variant `tx`.
"""

import struct
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import bson
import pymongo
from bson import ObjectId
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo.client_session import ClientSession

from benchmarks.session import DATABASE, OUTBOX, SNAPSHOTS

CHUNK = 100
Job = Mapping[str, Any]
_RAW: CodecOptions[RawBSONDocument] = CodecOptions(document_class=RawBSONDocument)
_OWNER = b"\x07contactId\x00"  # an element of type ObjectId


class ReferenceJob:
    """One process's client, and the job for one contact and for many."""

    def __init__(self, mongo_url: str) -> None:
        self._mongo: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(mongo_url)
        self._database = self._mongo[DATABASE]
        self._raw = self._database.messages.with_options(codec_options=_RAW)

    def warm_up(self) -> None:
        """Open the connection."""
        self._database.contacts.find_one({})

    def one(self, job: Job) -> None:
        """Do one job: two finds and a transaction of two inserts."""
        organization, contact_id = ObjectId(job["organizationId"]), ObjectId(job["contactId"])
        contact = self._database.contacts.find_one({"_id": contact_id, "organizationId": organization})
        condition = {"organizationId": organization, "contactId": contact_id}
        messages = list(self._database.messages.find(condition).sort("timestamp", 1))
        if contact is None:
            raise LookupError(contact_id)
        fields = _fields(job, contact)
        self._store([fields | {"contactId": contact_id} | _shaped(messages)], [_event(fields, contact_id)])

    def chunk(self, jobs: Sequence[Job]) -> None:
        """Do many jobs: a find, an aggregation and a transaction of two inserts."""
        ids = [ObjectId(job["contactId"]) for job in jobs]
        organizations = [ObjectId(each) for each in {job["organizationId"] for job in jobs}]
        wanted = {"_id": {"$in": ids}, "organizationId": {"$in": organizations}}
        contacts = {contact["_id"]: contact for contact in self._database.contacts.find(wanted)}
        halves = self._halves(organizations, ids)
        snapshots, events = [], []
        for job, contact_id in zip(jobs, ids, strict=True):
            fields = _fields(job, contacts[contact_id])
            snapshots.append(_splice(bson.encode(fields), halves[contact_id]))
            events.append(_event(fields, contact_id))
        self._store(snapshots, events)

    def _halves(self, organizations: list[ObjectId], contacts: list[ObjectId]) -> dict[ObjectId, bytes]:
        """Return, for each contact, the encoded part of its snapshot that comes from messages."""
        fields = {key: f"${key}" for key in ("content", "sender", "senderType", "timestamp")}
        group = {
            "_id": "$contactId",
            "messages": {"$push": {"id": {"$toString": "$_id"}, **fields}},
            "conversationStartDate": {"$first": "$timestamp"},
            "conversationEndDate": {"$last": "$timestamp"},
            "messageCount": {"$sum": 1},
        }
        stages: list[dict[str, Any]] = [
            {"$match": {"organizationId": {"$in": organizations}, "contactId": {"$in": contacts}}},
            {"$sort": {"organizationId": 1, "contactId": 1, "timestamp": 1}},
            {"$group": group},
            {"$project": {"_id": 0, "contactId": "$_id", **{key: 1 for key in group if key != "_id"}}},
        ]
        halves = {}
        for document in self._raw.aggregate(stages, batchSize=len(contacts) + 1):
            encoded = bytes(document.raw)
            value = encoded.rfind(_OWNER) + len(_OWNER)
            halves[ObjectId(encoded[value : value + 12])] = encoded
        return halves

    def _store(self, snapshots: Sequence[Any], events: Sequence[dict[str, Any]]) -> None:
        def insert_both(session: ClientSession) -> None:
            self._database[SNAPSHOTS].insert_many(snapshots, session=session)
            self._database[OUTBOX].insert_many(events, session=session)

        def insert_two(session: ClientSession) -> None:
            self._database[SNAPSHOTS].insert_one(snapshots[0], session=session)
            self._database[OUTBOX].insert_one(events[0], session=session)

        with self._mongo.start_session() as session:
            session.with_transaction(insert_two if len(snapshots) == 1 else insert_both)


def _fields(job: Job, contact: Mapping[str, Any]) -> dict[str, Any]:
    now = datetime.now(UTC)
    return {
        "_id": ObjectId(),
        "organizationId": contact["organizationId"],
        "userId": ObjectId(job["userId"]),
        "customerName": f"{contact['firstName']} {contact['lastName']}",
        "customerPhone": contact["phoneNumber"],
        "customerEmail": contact["email"],
        "snapshotDate": now,
        **{name: job[name] for name in ("notes", "tags", "quality", "category", "requestId")},
        "isArchived": False,
        "createdAt": now,
        "updatedAt": now,
    }


def _shaped(messages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    kept = ("content", "sender", "senderType", "timestamp")
    return {
        "messages": [{"id": str(each["_id"])} | {name: each[name] for name in kept} for each in messages],
        "messageCount": len(messages),
        "conversationStartDate": messages[0]["timestamp"],
        "conversationEndDate": messages[-1]["timestamp"],
    }


def _event(fields: Mapping[str, Any], contact_id: ObjectId) -> dict[str, Any]:
    return {
        "_id": ObjectId(),
        "type": "snapshot.completed",
        "snapshotId": fields["_id"],
        "organizationId": fields["organizationId"],
        "contactId": contact_id,
        "requestId": fields["requestId"],
        "createdAt": fields["createdAt"],
    }


def _splice(first: bytes, second: bytes) -> RawBSONDocument:
    """Join two BSON documents without decoding them: the length, the elements of both, a zero byte."""
    return RawBSONDocument(struct.pack("<i", len(first) + len(second) - 5) + first[4:-1] + second[4:])
