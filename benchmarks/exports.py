"""`python -m benchmarks.exports`: rate and memory of an export, next to a plain loop that writes the same rows.

Rounds of both alternate in one run. Then workers make the same export while someone POSTs: how long do the POSTs take?

    python -m benchmarks.exports --snapshots 1000000 --rounds 2 --texts FOLDER --data FOLDER

With SNAPSHOTS_MONGO_URL and SNAPSHOTS_MONGO_DATABASE it uses that database, and stores the snapshots there
unless it has them.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
import time
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import as_file, files
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import click
import httpx
import psutil
from pyarrow import parquet

from benchmarks.export_snapshots import FIRST, ORGANIZATION, seed, texts
from benchmarks.machine import about
from benchmarks.meters import tree
from worker.exports.accepting import accept_export
from worker.formats import FORMATS
from worker.importing import import_files
from worker.jobs.store import Jobs
from worker.local.data_folder import data_folder
from worker.local.embedded import Options as ServerOptions
from worker.local.embedded import servers
from worker.local.stack import Stack, stack
from worker.service import Service
from worker.settings import PREFIX, Settings, load
from worker.stores import indexes
from worker.stores.connections import Connections

DATABASE = "benchmarks"
_LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
_POST_EVERY = 0.1


@dataclass(frozen=True)
class Measured:
    """One process: snapshots a second, its peak of resident memory, and the hash of the rows that it wrote."""

    rate: float
    cpu: float
    peak_mb: float
    rows: str


def measured(count: int, argv: list[str], env: dict[str, str], written: Path, less: Measured | None = None) -> Measured:
    """Run a process and measure it. `less`: a process with one snapshot, whose time does not count."""
    began = time.monotonic()
    process = subprocess.Popen(argv, env=env, stdout=subprocess.DEVNULL)
    peak = 0.0
    # Without reaping it, so that its peak can still be read. The peak that wait4 gives may be that of this process.
    while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
        peak = max(peak, _peak_mb(process.pid))
        time.sleep(0.05)
    seconds = time.monotonic() - began
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{argv[-3:]} ended with {process.returncode}")
    cpu = usage.ru_utime + usage.ru_stime
    if less:
        seconds, cpu = seconds - 1 / less.rate, cpu - less.cpu
    return Measured(count / seconds, cpu, peak, _hash(written))


def _hash(written: Path) -> str:
    """Return the hash of all lines, or of all rows of a table."""
    rows = hashlib.sha256()
    parts = [each for each in written.rglob("train*") if each.suffix in {".jsonl", ".parquet"}]
    for path in sorted(parts) if written.is_dir() else [written]:
        with path.open("rb") as file:
            if file.read(4) == b"PAR1":
                for batch in parquet.ParquetFile(path).iter_batches(1000):
                    for row in batch.to_pylist():
                        rows.update(repr(row).encode())
                continue
            file.seek(0)
            while block := file.read(1 << 20):
                rows.update(block)
    return rows.hexdigest()


def _peak_mb(pid: int) -> float:
    """Return the peak of a process's resident memory so far; 0 once it has none."""
    found = re.search(r"^VmHWM:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


def compare(
    own: Settings, folder: Path, form: str, count: int, rounds: int, more: tuple[str, ...]
) -> dict[str, list[Measured]]:
    """Run loop and export in turn, every second round in reverse. What one snapshot takes does not count."""
    env = dict(os.environ) | {
        f"{PREFIX}MONGO_URL": own.mongo_url,
        f"{PREFIX}REDIS_URL": own.redis_url,
        f"{PREFIX}MONGO_DATABASE": own.mongo_database,
    }
    command = [sys.executable, "-c", "from worker.cli import main; main(prog_name='snapshots')", "export"]
    command += ["--organization", str(ORGANIZATION), "--format", form, *more]
    loop = [sys.executable, "-m", "benchmarks.export_loop", own.mongo_url, own.mongo_database, form]
    found: dict[str, list[Measured]] = {"loop": [], "export": []}
    starts = {
        "loop": measured(1, [*loop, str(folder / "one"), "1"], env, folder / "one"),
        "export": measured(
            1, [*command, "--conversation", str(FIRST), "-o", str(folder / "first")], env, folder / "first"
        ),
    }
    subprocess.run(["rm", "-rf", folder / "one", folder / "first"], check=True)
    for number in range(rounds):
        names = ("export",) if more else ("loop", "export")
        for name in names if number % 2 == 0 else reversed(names):
            target = folder / f"{name}-{number}"
            argv = [*loop, str(target)] if name == "loop" else [*command, "-o", str(target)]
            each = measured(count, argv, env, target, starts[name])
            found[name].append(each)
            click.echo(
                f"{form}, {name}: {each.rate:,.0f} a second, {each.cpu:.1f} s of CPU, {each.peak_mb:.0f} MB", err=True
            )
            subprocess.run(["rm", "-rf", target], check=True)
    if not more and len({each.rows for all_ in found.values() for each in all_}) != 1:
        raise SystemExit("loop and export wrote different rows")
    return found


def figures(found: dict[str, list[Measured]], count: int) -> dict[str, Any]:
    """Return the rates and their ratio in each round, the medians, the CPU time of a snapshot, and the peak memory."""
    rates = {name: [each.rate for each in of] for name, of in found.items()}
    ratios = [export / loop for loop, export in zip(rates["loop"], rates["export"], strict=True)]
    return {
        "rate": {name: [round(each) for each in of] for name, of in rates.items()},
        "median": {name: round(median(of)) for name, of in rates.items()},
        "ratio": {"rounds": [round(each, 2) for each in ratios], "median": round(median(ratios), 2)},
        "cpu_us": {name: round(median(each.cpu for each in of) / count * 1e6) for name, of in found.items()},
        "peak_mb": {name: round(max(each.peak_mb for each in of)) for name, of in found.items()},
    }


def posts(own: Settings, folder: Path, form: str) -> dict[str, Any]:
    """POST while workers make an export: the number of POSTs, their p50, p99 and maximum in s, the workers' memory."""
    with stack(own, folder / "stack") as running, closing(Connections(running.settings)) as connections:
        with as_file(files("worker.local") / "samples" / "conversations.jsonl") as path:
            import_files([path], running.api.organization, connections)
        contact = next(connections.database.messages.find({"organizationId": running.api.organization}).limit(1))
        service = Service(connections, lambda *_, **__: None)
        jobs = Jobs(service)
        job = accept_export(service, ORGANIZATION, {"format": form})
        # The sweep enqueues what was accepted long ago.
        connections.database.snapshotjobs.update_one({"_id": job.id}, {"$set": {"enqueuedAt": _LONG_AGO}})
        headers = {"Authorization": f"Bearer {running.api.token}"}
        took: list[float] = []
        memory = 0
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
                memory = max(memory, _memory_of_workers(running))
                time.sleep(max(0.0, _POST_EVERY - (time.monotonic() - began)))
        seconds = (now.finished_at - now.started_at).total_seconds() if now.finished_at and now.started_at else 0.0
    if len(took) < 2:
        raise SystemExit("The export ended before two POSTs were answered: take more snapshots.")
    cuts = quantiles(took, n=100, method="inclusive")
    p50, p99, most = (round(each, 3) for each in (cuts[49], cuts[98], max(took)))
    result = {"export": now.status, "seconds": seconds, "posts": len(took), "p50": p50, "p99": p99, "max": most}
    return result | {"worker_mb": round(memory / 2**20)}


def _memory_of_workers(running: Stack) -> int:
    """Return the resident memory of the largest process of a worker, in bytes."""
    most = 0
    for child in running.supervisor.children:
        for process in tree(child.pid) if child.name.startswith("worker") else ():
            with suppress(psutil.NoSuchProcess):
                most = max(most, process.memory_info().rss)
    return most


@click.command()
@click.option("--snapshots", "count", type=click.IntRange(100), default=1_000_000, show_default=True)
@click.option("--messages", type=click.IntRange(2), default=20, show_default=True)
@click.option("--rounds", type=click.IntRange(0), default=2, show_default=True)
@click.option(
    "--format",
    "forms",
    type=click.Choice(sorted(FORMATS)),
    multiple=True,
    default=["jsonl"],
    show_default=True,
    help="Can be repeated.",
)
@click.option("--cache", type=float, default=1.0, show_default=True, help="MongoDB's cache in GB.")
@click.option("--split/--no-split", default=False, help="Also a stratified split without duplicates.")
@click.option("--post/--no-post", default=True, show_default=True, help="Also POST while workers make the export.")
@click.option(
    "--texts", "said", type=click.Path(path_type=Path, exists=True), help="Folder of conversations whose texts to use."
)
@click.option(
    "--data", type=click.Path(path_type=Path, file_okay=False), help="Folder to keep. Default: a temporary one."
)
def main(
    count: int,
    messages: int,
    rounds: int,
    forms: tuple[str, ...],
    cache: float,
    split: bool,
    post: bool,
    said: Path | None,
    data: Path | None,
) -> None:
    """Measure exports, and print the result as JSON."""
    given = load()
    named = "mongo_database" in given.model_fields_set
    with ExitStack() as exits:
        folder = exits.enter_context(data_folder(data)).path
        up = exits.enter_context(servers(given, folder / "servers", ServerOptions(cache_gb=cache)))
        database = given.mongo_database if named else DATABASE
        own = load(mongo_url=up.mongo_url, redis_url=up.redis_url, mongo_database=database)
        with closing(Connections(own)) as connections:
            indexes.ensure(connections)
            seed(connections.database.trainingsnapshots, count, messages, texts(said))
        result: dict[str, Any] = {"machine": about(), "snapshots": count, "messages": messages}
        if rounds:
            result["formats"] = {form: figures(compare(own, folder, form, count, rounds, ()), count) for form in forms}
        if split:
            options = ("--split", "90/5/5", "--stratify", "quality", "--dedupe")
            (divided,) = compare(own, folder, forms[0], count, 1, options)["export"]
            result["split"] = {"rate": round(divided.rate), "peak_mb": round(divided.peak_mb)}
        if post:
            result["posts"] = posts(own, folder, forms[0])
    click.echo(json.dumps(result))


if __name__ == "__main__":
    main()
