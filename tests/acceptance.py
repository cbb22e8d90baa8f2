"""Acceptance run: imports conversations, requests a snapshot of each, and compares every snapshot with its source.

    python tests/acceptance.py [PATH ...]

A path is a file in JSON Lines (`.jsonl` or `.jsonl.gz`) or a folder of such files; the default is the samples. The run
uses the commands as a user would: `snapshots up`, `import`, `request --all`, `status`. It prints each difference and
exits with 1 if there is any, with 2 if there is nothing to import.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pymongo
import redis
from bson import ObjectId

from support.comparing import compare, event_faults

ROOT = Path(__file__).parent.parent
SAMPLES = ROOT / "worker" / "local" / "samples"
SNAPSHOTS = [str(Path(sys.executable).with_name("snapshots"))]


def main(arguments: list[str]) -> int:
    paths = [path for given in arguments or [str(SAMPLES)] for path in conversation_files(Path(given))]
    if not paths:
        print(f"no *.jsonl or *.jsonl.gz files in {', '.join(arguments)}", file=sys.stderr)
        return 2
    organization = ObjectId()
    with stack() as addresses:
        environment = {
            "SNAPSHOTS_REDIS_URL": addresses["redis"],
            "SNAPSHOTS_MONGO_URL": addresses["mongo"],
            "SNAPSHOTS_MONGO_DATABASE": addresses["database"],
        }
        imported = run(environment, "import", *map(str, paths), "--organization", str(organization))
        print(f"imported {imported['stored']} of {imported['read']} conversations in {imported['seconds']:.1f} s")
        requested = run(environment, "request", "--all", "--organization", str(organization))
        print(f"requested: {json.dumps({key: value for key, value in requested.items() if key != 'organizationId'})}")
        status = run(environment, "status", "--organization", str(organization))
        return report(paths, addresses, organization, status)


def conversation_files(path: Path) -> list[Path]:
    """The files of a folder, or the file itself. Raises SystemExit if there is no such path."""
    if path.is_dir():
        return sorted([*path.glob("*.jsonl"), *path.glob("*.jsonl.gz")])
    if not path.is_file():
        raise SystemExit(f"{path}: no such file or folder")
    return [path]


def report(paths: list[Path], addresses: dict[str, Any], organization: ObjectId, status: dict[str, Any]) -> int:
    """Compares the database with the files, prints the result and returns the exit code."""
    with pymongo.MongoClient[dict[str, Any]](addresses["mongo"], tz_aware=True) as mongo:
        database = mongo[addresses["database"]]
        compared = compare(paths, database, organization)
        with redis.Redis.from_url(addresses["redis"]) as broker:
            entries: Any = broker.xrange("snapshots:events")
        faults = event_faults((json.loads(fields[b"event"]) for _, fields in entries), database, organization)
    print(
        f"compared {compared.conversations} conversations, {compared.messages} messages, {compared.empty} empty: "
        f"{len(compared.differences)} differences; {len(entries)} events: {len(faults)} faults"
    )
    print(f"status: {json.dumps(status)}")
    for fault in [*compared.differences, *faults][:20]:
        print(f"  {fault}")
    holds = [each["holds"] for each in status["organizations"]] == [True]
    if not holds:
        print("  the identity accepted = completed + failed + in flight does not hold, or was not checked")
    if not compared.conversations:
        print("  the files have no conversations, so nothing was compared", file=sys.stderr)
        return 2
    return 1 if compared.differences or faults or not holds else 0


@contextmanager
def stack() -> Iterator[dict[str, Any]]:
    """Runs `snapshots up` and yields the addresses that it prints. Raises SystemExit if it does not start."""
    with subprocess.Popen([*SNAPSHOTS, "up", "--json"], stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            if not line:
                raise SystemExit("`snapshots up` ended before it printed its addresses; its messages are above")
            yield json.loads(line)
        finally:
            process.terminate()
            process.wait(60)


def run(environment: dict[str, str], *arguments: str) -> dict[str, Any]:
    """Runs a command and returns its JSON output, with the `seconds` that it took."""
    started = time.monotonic()
    done = subprocess.run(
        [*SNAPSHOTS, *arguments, "--json"], env=os.environ | environment, stdout=subprocess.PIPE, cwd=ROOT, check=False
    )
    if done.returncode not in {0, 1} or not done.stdout:
        raise SystemExit(f"`snapshots {arguments[0]}` exited with {done.returncode}")
    result: dict[str, Any] = json.loads(done.stdout)
    return {"seconds": time.monotonic() - started, **result}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
