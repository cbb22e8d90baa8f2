"""`python -m benchmarks.exports`: rate and memory of an export, next to a plain loop that writes the same lines.

Rounds of both alternate in one run. Then workers make the same export while someone POSTs: how long do the POSTs take?

    python -m benchmarks.exports --snapshots 1000000 --rounds 2
"""

import hashlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.resources import as_file, files
from pathlib import Path
from statistics import quantiles
from typing import Any

import click
import httpx
import pymongo
from bson import ObjectId

from benchmarks.dataset import text
from benchmarks.machine import about
from worker.exports.accepting import accept_export
from worker.formats import FORMATS, Options, Skipped, line
from worker.importing import import_files
from worker.jobs.store import Jobs
from worker.local.data_folder import data_folder
from worker.local.embedded import Options as ServerOptions
from worker.local.embedded import Servers, servers
from worker.local.stack import stack
from worker.service import Service
from worker.settings import PREFIX, load
from worker.stores import indexes
from worker.stores.connections import Connections

DATABASE = "benchmarks"
ORGANIZATION = ObjectId(f"{0xA0000000:024x}")
_BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
_BATCH = 1000
_POST_EVERY = 0.1
_OPTIONS = ("--organization", str(ORGANIZATION), "--format", "messages")


@dataclass(frozen=True)
class Measured:
    """One process: snapshots a second, its peak of resident memory, and the hash of the lines that it wrote."""

    rate: float
    cpu: float
    peak_mb: float
    lines: str


def snapshots(count: int, messages: int) -> Iterator[dict[str, Any]]:
    """Yields snapshots; three in a row are of one contact."""
    dice = random.Random(1)
    texts = [text(dice) for _ in range(2000)]
    for number in range(count):
        at = _BEGINNING + timedelta(seconds=number)
        turns = [
            {
                "id": f"{number:016x}{turn:08x}",
                "content": texts[(number * 7 + turn * 13) % len(texts)],
                "sender": "user" if turn % 2 else "contact",
                "senderType": "agent" if turn % 2 else "customer",
                "timestamp": at + timedelta(seconds=37 * turn),
            }
            for turn in range(messages)
        ]
        yield {
            "_id": ObjectId(f"{number + 1:024x}"),
            "organizationId": ORGANIZATION,
            "contactId": ObjectId(f"{number // 3 + 1:024x}"),
            "messageCount": messages,
            "notes": "good closing, polite",
            "tags": ["sales", "won"],
            "quality": ("good", "good", "bad", None)[number % 4],
            "category": "closing",
            "isArchived": False,
            "contentHash": hashlib.sha256(str(number).encode()).hexdigest(),
            "createdAt": at,
            "updatedAt": at,
            "messages": turns,
        }


def seed(url: str, count: int, messages: int) -> None:
    """Stores the snapshots."""
    with pymongo.MongoClient[Any](url) as client:
        batch: list[dict[str, Any]] = []
        for each in snapshots(count, messages):
            batch.append(each)
            if len(batch) == _BATCH:
                client[DATABASE].trainingsnapshots.insert_many(batch, ordered=False)
                batch = []
        if batch:
            client[DATABASE].trainingsnapshots.insert_many(batch, ordered=False)


def write_in_a_loop(url: str, path: Path) -> None:
    """The reference: reads in order, converts, and writes, without a selection, a manifest, or anything durable."""
    form = FORMATS["messages"]
    with pymongo.MongoClient[Any](url) as client, path.open("wb") as file:
        for document in client[DATABASE].trainingsnapshots.find({"organizationId": ORGANIZATION}).sort("_id", 1):
            try:
                rows = form.rows(document, Options())
            except Skipped:
                continue
            file.writelines(map(line, rows))


def measured(count: int, argv: list[str], env: dict[str, str], written: Path) -> Measured:
    """Runs a process and measures it."""
    began = time.monotonic()
    process = subprocess.Popen(argv, env=env, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{argv[-3:]} ended with {process.returncode}")
    lines = hashlib.sha256()
    for path in sorted(written.glob("train*.jsonl")) if written.is_dir() else [written]:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                lines.update(block)
    peak = usage.ru_maxrss / 1024  # KiB on Linux
    return Measured(count / seconds, usage.ru_utime + usage.ru_stime, peak, lines.hexdigest())


def compare(up: Servers, folder: Path, count: int, rounds: int, more: tuple[str, ...]) -> dict[str, list[Measured]]:
    """Runs loop and export in turn, every second round in reverse."""
    env = dict(os.environ) | up.environment() | {f"{PREFIX}MONGO_DATABASE": DATABASE}
    command = [sys.executable, "-c", "from worker.cli import main; main(prog_name='snapshots')", "export", *_OPTIONS]
    found: dict[str, list[Measured]] = {"loop": [], "export": []}
    for number in range(rounds):
        names = ("export",) if more else ("loop", "export")
        for name in names if number % 2 == 0 else reversed(names):
            target = folder / f"{name}-{number}"
            loop = [sys.executable, "-m", "benchmarks.exports", "--loop", str(target)]
            argv = loop if name == "loop" else [*command, *more, "-o", str(target)]
            each = measured(count, argv, env, target)
            found[name].append(each)
            click.echo(f"{name}: {each.rate:,.0f} a second, {each.cpu:.1f} s of CPU, {each.peak_mb:.0f} MB", err=True)
            subprocess.run(["rm", "-rf", target], check=True)
    if not more and len({each.lines for all_ in found.values() for each in all_}) != 1:
        raise SystemExit("loop and export wrote different lines")
    return found


def posts(up: Servers, folder: Path) -> dict[str, Any]:
    """POSTs while workers make an export; returns the number of POSTs, their p50, p99 and maximum in seconds."""
    own = load(mongo_url=up.mongo_url, redis_url=up.redis_url, mongo_database=DATABASE)
    with stack(own, folder / "stack") as running, closing(Connections(running.settings)) as connections:
        with as_file(files("worker.local") / "samples" / "conversations.jsonl") as path:
            import_files([path], running.api.organization, connections)
        contact = next(connections.database.messages.find({"organizationId": running.api.organization}).limit(1))
        service = Service(connections, lambda *_, **__: None)
        jobs = Jobs(service)
        job = accept_export(service, ORGANIZATION, {"format": "messages"})
        connections.database.snapshotjobs.update_one({"_id": job.id}, {"$set": {"enqueuedAt": _BEGINNING}})
        headers = {"Authorization": f"Bearer {running.api.token}"}
        took: list[float] = []
        with httpx.Client(base_url=running.api.url, headers=headers, timeout=60) as client:
            while not (now := jobs.get(job.id)).is_finished:
                if now.status != "running":
                    time.sleep(0.05)
                    continue
                began = time.monotonic()
                answer = client.post("/api/training/snapshots", json={"contactId": str(contact["contactId"])})
                took.append(time.monotonic() - began)
                if answer.status_code != 201:
                    raise SystemExit(answer.text)
                time.sleep(max(0.0, _POST_EVERY - took[-1]))
        seconds = (now.finished_at - now.started_at).total_seconds() if now.finished_at and now.started_at else 0.0
    if len(took) < 2:
        raise SystemExit("The export ended before two POSTs were answered: take more snapshots.")
    cuts = quantiles(took, n=100, method="inclusive")
    p50, p99, most = (round(each, 3) for each in (cuts[49], cuts[98], max(took)))
    return {"export": now.status, "seconds": seconds, "posts": len(took), "p50": p50, "p99": p99, "max": most}


@click.command()
@click.option("--snapshots", "count", type=click.IntRange(100), default=1_000_000, show_default=True)
@click.option("--messages", type=click.IntRange(2), default=20, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=2, show_default=True)
@click.option("--cache", type=float, default=1.0, show_default=True, help="MongoDB's cache in GB.")
@click.option("--split/--no-split", default=False, help="Also a stratified split without duplicates.")
@click.option("--loop", type=click.Path(path_type=Path), hidden=True)
def main(count: int, messages: int, rounds: int, cache: float, split: bool, loop: Path | None) -> None:
    """Measures exports, and prints the result as JSON."""
    if loop:
        write_in_a_loop(load().mongo_url, loop)
        return
    with data_folder() as folder, servers(load(), folder.path / "servers", ServerOptions(cache_gb=cache)) as up:
        with closing(Connections(load(mongo_url=up.mongo_url, mongo_database=DATABASE))) as connections:
            indexes.ensure(connections)
        seed(up.mongo_url, count, messages)
        found = compare(up, folder.path, count, rounds, ())
        best = {name: max(each.rate for each in of) for name, of in found.items()}
        result: dict[str, Any] = {
            "machine": about(),
            "snapshots": count,
            "messages": messages,
            "rate": {name: [round(each.rate) for each in of] for name, of in found.items()},
            "cpu_seconds": {name: [round(each.cpu, 1) for each in of] for name, of in found.items()},
            "ratio": round(best["export"] / best["loop"], 2),
            "peak_mb": round(max(each.peak_mb for each in found["export"])),
        }
        if split:
            options = ("--split", "90/5/5", "--stratify", "quality", "--dedupe")
            (divided,) = compare(up, folder.path, count, 1, options)["export"]
            result["split"] = {"rate": round(divided.rate), "peak_mb": round(divided.peak_mb)}
        result["posts"] = posts(up, folder.path)
    click.echo(json.dumps(result))


if __name__ == "__main__":
    main()
