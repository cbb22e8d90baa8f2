"""Compares snapshots and events with the files that their conversations were imported from."""

import gzip
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from bson import ObjectId
from pymongo.database import Database

from worker.clock import milliseconds


@dataclass
class Compared:
    """How much was compared, and every difference as a sentence."""

    conversations: int = 0
    messages: int = 0
    empty: int = 0
    differences: list[str] = field(default_factory=list)


def read(paths: Iterable[Path]) -> Iterator[dict[str, Any]]:
    """Yields the conversations of JSON Lines files, gzipped or plain."""
    for path in paths:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
            yield from (json.loads(line) for line in lines if line.strip())


def compare(paths: Iterable[Path], database: Database[dict[str, Any]], organization: ObjectId) -> Compared:
    """Compares each conversation with its snapshot, byte for byte and in order, or with its failure if it is empty.

    Requests and snapshots of other conversations are differences as well.
    """
    compared = Compared()
    mine = {"organizationId": organization}
    by_ref = {each["ref"]: each["_id"] for each in database.conversations.find(mine, {"ref": 1})}
    requests = {each["conversationId"]: each for each in database.snapshotrequests.find(mine)}
    for source in read(paths):
        ref = source["conversation"]["ref"]
        compared.conversations += 1
        compared.messages += len(source["messages"])
        request = requests.pop(by_ref.pop(ref, None), None)
        if request is None:
            compared.differences.append(f"{ref}: has no request")
        elif not source["messages"]:
            compared.empty += 1
            if request["status"] != "failed" or request["error"]["code"] != "empty_conversation":
                compared.differences.append(f"{ref}: is empty, but its request is {request['status']}")
        else:
            snapshot = database.trainingsnapshots.find_one({"_id": request["_id"]})
            compared.differences += [f"{ref}: {fault}" for fault in _faults(source, snapshot)]
    compared.differences += [f"{key}: a request for a conversation that is not in the files" for key in requests]
    expected = compared.conversations - compared.empty
    if (found := database.trainingsnapshots.count_documents(mine)) != expected:
        compared.differences.append(f"there are {found} snapshots, not {expected}")
    return compared


def _faults(source: dict[str, Any], snapshot: dict[str, Any] | None) -> Iterator[str]:
    if snapshot is None:
        yield "has no snapshot"
        return
    stored = [
        (each["content"].encode(), each["sender"], each["senderType"], milliseconds(each["timestamp"]))
        for each in snapshot["messages"]
    ]
    given = [
        (each["content"].encode(), each["sender"], _sender_type(each), _time(each))
        for each in in_order(source["messages"])
    ]
    if stored != given:
        first = next((number for number, pair in enumerate(zip(stored, given, strict=False)) if pair[0] != pair[1]), -1)
        yield f"differs from its source at message {first} ({len(stored)} stored, {len(given)} given)"
    if snapshot["messageCount"] != len(given):
        yield f"has messageCount {snapshot['messageCount']}"
    contact = source.get("contact") or {}
    name = " ".join(part for part in ((contact.get(key) or "").strip() for key in ("firstName", "lastName")) if part)
    if snapshot["customerName"] != name:
        yield "has a different customer name"


def in_order(messages: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The messages of a conversation in the order of their times, as a snapshot has them."""
    return sorted(messages, key=_time)


def _time(message: dict[str, Any]) -> int:
    return milliseconds(datetime.fromisoformat(message["timestamp"]))


def _sender_type(message: dict[str, Any]) -> str:
    return message.get("senderType") or {"user": "HUMAN", "contact": "CONTACT"}[message["sender"]]


def event_faults(
    events: Iterable[dict[str, Any]], database: Database[dict[str, Any]], organization: ObjectId
) -> list[str]:
    """Checks that each request and each job has one event id, and that repeats of an event have the same content."""
    contents: dict[str, set[str]] = {}
    for event in events:
        if event["data"]["organizationId"] == str(organization):
            contents.setdefault(event["id"], set()).add(json.dumps(event, sort_keys=True))
    faults = [f"event {key} has {len(found)} contents" for key, found in contents.items() if len(found) > 1]
    due = Counter(
        f"{each['_id']}.{each['round']}"
        for each in database.snapshotrequests.find({"organizationId": organization}, {"round": 1})
    )
    ended = {"organizationId": organization, "status": "completed"}
    due.update(f"{each['_id']}.0" for each in database.snapshotjobs.find(ended, {"_id": 1}))
    faults += [f"request or job {key} has no event" for key in due if key not in contents]
    faults += [f"event {key} belongs to no request or job" for key in contents if key not in due]
    return faults
