"""Snapshots to export, and exports that run in this process."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bson import ObjectId

from support.ledger import Bench
from worker.exports.accepting import accept_export
from worker.exports.export import Export
from worker.exports.places import open_destination
from worker.jobs.job import Job
from worker.jobs.slices import Slice, run_slice
from worker.jobs.store import Jobs

START = datetime(2026, 5, 13, tzinfo=UTC)


def snapshot(bench: Bench, number: int, messages: int = 4, **fields: Any) -> dict[str, Any]:
    """A snapshot whose texts and labels depend on its number."""
    turns = [
        {
            "_id": ObjectId(f"{number:016x}{place:08x}"),
            "sender": "user" if place % 2 else "contact",
            "content": f"Message {place} of conversation {number}, with an ü",
            "timestamp": START + timedelta(minutes=number, seconds=place),
        }
        for place in range(messages)
    ]
    return {
        "_id": ObjectId(f"{number + 1:024x}"),
        "organizationId": bench.organization,
        "contactId": ObjectId(f"{number // 2 + 1:024x}"),
        "messageCount": messages,
        "notes": f"note {number}",
        "tags": ["refund"],
        "quality": ("good", "bad", None)[number % 3],
        "category": "sales",
        "isArchived": False,
        "conversationId": ObjectId(f"{number + 1:024x}"),
        "contentHash": f"{number:064x}",
        "createdAt": START + timedelta(minutes=number),
        "updatedAt": START + timedelta(minutes=number),
        "messages": turns,
        **fields,
    }


def add_snapshots(bench: Bench, count: int, first: int = 0, **fields: Any) -> None:
    """Insert snapshots; two in a row are of one contact."""
    made = [snapshot(bench, number, **fields) for number in range(first, first + count)]
    bench.database.trainingsnapshots.insert_many(made)


class Exporting:
    """Exports of a bench, run slice by slice."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.jobs = Jobs(bench.service)
        self.work = Export(bench.service, lambda job: open_destination(bench.settings, job.id))

    @property
    def root(self) -> Path:
        return Path(str(self.bench.settings.exports_url))

    def accept(self, **given: Any) -> Job:
        return accept_export(self.bench.service, self.bench.organization, {"format": "jsonl", **given})

    def slice(self, job: Job, work: Any = None) -> None:
        run_slice(self.jobs, job.id, "test", work or self.work, self.work.clean_up)

    def run(self, **given: Any) -> Job:
        """Run an export to its end."""
        job = self.accept(**given)
        for _ in range(1000):
            self.slice(job)
            if (now := self.jobs.get(job.id)).is_finished:
                return now
        raise AssertionError(f"not finished: {now}")

    def files(self, job: Job) -> dict[str, bytes]:
        """The finished files, without the manifest."""
        folder = self.root / str(job.id)
        found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
        return {name: path.read_bytes() for name, path in sorted(found.items()) if name != "manifest.json"}

    def content(self, job: Job) -> dict[str, bytes]:
        """The files that do not name the export itself."""
        return {name: data for name, data in self.files(job).items() if name not in {"README.md", "croissant.json"}}

    def manifest(self, job: Job) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.root / str(job.id) / "manifest.json").read_text())
        return found

    def rows(self, job: Job) -> list[dict[str, Any]]:
        return [
            json.loads(line)
            for name, data in self.files(job).items()
            if name.endswith(".jsonl")
            for line in data.splitlines()
        ]

    def strays(self) -> list[str]:
        """What is at the destination besides finished exports."""
        return [path.name for path in self.root.glob(".*")]


def at_once(own: Slice) -> Slice:
    """A slice that is over as soon as it has begun."""
    own._ends = 0.0
    return own
