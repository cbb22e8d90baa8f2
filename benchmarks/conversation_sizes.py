"""Measures single conversations of 10, 100, ... messages: time per message, and the worker's memory."""

import random
import statistics
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.dataset import LABELS, contact_id, conversation_id, messages_of, organization_of, seed
from benchmarks.latency import Arrivals
from benchmarks.meters import tree
from benchmarks.pipeline import Pipeline, pipeline
from benchmarks.session import Session
from worker.bootstrap import build
from worker.domain.requests import SnapshotRequest
from worker.service import NewRequest, Service

_FIRST = 1_000_000
"""Number of the first of these contacts, far from all other numbers."""
_REPEATS = 7
_RESET_PEAK = "5"  # https://www.kernel.org/doc/Documentation/filesystems/proc.txt, /proc/PID/clear_refs
_BATCH = 10_000


def sizes(session: Session) -> list[dict[str, Any]]:
    """Return, for each length, the median `ms` from accept to event, `us_per_message`, `bytes` and `peak_bytes`.

    `bytes` is the size of the snapshot, `peak_bytes` the rise of the worker's memory (None except on Linux).
    """
    lengths = [length for length in (10, 100, 1000, 10_000) if length <= session.options.amounts.longest]
    _store(session, lengths)
    try:
        with pipeline(session) as ours:
            service = build(session.settings)
            try:
                return [_measure(session, ours, service, place, length) for place, length in enumerate(lengths)]
            finally:
                service.connections.close()
    finally:
        _remove(session, len(lengths))


def _store(session: Session, lengths: list[int]) -> None:
    seed(session.database, len(lengths), 1, first=_FIRST)
    dice = random.Random(2)
    for place, length in enumerate(lengths):
        documents = messages_of(_FIRST + place, length, dice)[1:]
        for start in range(0, len(documents), _BATCH):
            session.database.messages.insert_many(documents[start : start + _BATCH])


def _remove(session: Session, count: int) -> None:
    ids = [contact_id(_FIRST + place) for place in range(count)]
    session.database.messages.delete_many({"contactId": {"$in": ids}})
    session.database.conversations.delete_many({"contactId": {"$in": ids}})
    session.database.contacts.delete_many({"_id": {"$in": ids}})


def _measure(session: Session, ours: Pipeline, service: Service, place: int, length: int) -> dict[str, Any]:
    number = _FIRST + place
    body = LABELS | {
        "organizationId": str(organization_of(number)),
        "contactId": str(contact_id(number)),
        "conversationId": str(conversation_id(number)),
    }
    events = Arrivals(session)
    before = _reset_peaks(ours)
    waits = []
    for turn in range(_REPEATS):
        tag = f"size{length}x{turn}"
        request = SnapshotRequest.read(body | {"requestId": f"{tag}-0"}, session.settings)
        began = time.time()
        service.submit(NewRequest(request, f"{tag}-0", "client"))
        waits.append(events.wait_for(tag, 1, 60)[f"{tag}-0"] - began)
    rises = [_memory(pid, "VmHWM") - rss for pid, rss in before.items()]
    middle = statistics.median(waits)
    return {
        "messages": length,
        "ms": round(1e3 * middle, 2),
        "us_per_message": round(1e6 * middle / length, 1),
        "bytes": _size_of_snapshot(session, number),
        "peak_bytes": max(rises) if rises else None,
    }


def _size_of_snapshot(session: Session, number: int) -> int:
    snapshots = session.database[session.settings.snapshots_collection]
    stages: list[dict[str, Any]] = [
        {"$match": {"contactId": contact_id(number)}},
        {"$limit": 1},
        {"$project": {"size": {"$bsonSize": "$$ROOT"}}},
    ]
    return next(int(each["size"]) for each in snapshots.aggregate(stages))


def _reset_peaks(ours: Pipeline) -> dict[int, int]:
    """Return the memory of each process that runs tasks, and reset its peak."""
    pools = [each.pid for name, pid in ours.processes.items() if name.startswith("worker") for each in tree(pid)[1:]]
    found = {}
    for pid in pools:
        with suppress(OSError):
            Path(f"/proc/{pid}/clear_refs").write_text(_RESET_PEAK)
            found[pid] = _memory(pid, "VmRSS")
    return found


def _memory(pid: int, name: str) -> int:
    """Read a value of /proc/PID/status, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))
