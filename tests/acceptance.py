"""The acceptance run: every conversation of the files imported, requested, and compared with its source.

    python tests/acceptance.py [FILE ...]     default: ../shared/data/*.jsonl.gz

Drives the commands as a user would: `snapshots up`, `import`, `request --all`, `status`. Exit code 1 on any
difference, each named.
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
DATA = ROOT.parent / "shared" / "data"
SNAPSHOTS = [str(Path(sys.executable).with_name("snapshots"))]


def main(arguments: list[str]) -> int:
    paths = [Path(each) for each in arguments] or sorted(DATA.glob("*.jsonl.gz"))
    if not paths:
        print(f"there are no conversations: give files, or put them into {DATA.name}/", file=sys.stderr)
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


def report(paths: list[Path], addresses: dict[str, Any], organization: ObjectId, status: dict[str, Any]) -> int:
    """Compares, prints, and gives the exit code."""
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
    holds = all(each["holds"] for each in status["organizations"])
    if not holds:
        print("  the identity does not hold")
    return 1 if compared.differences or faults or not holds else 0


@contextmanager
def stack() -> Iterator[dict[str, Any]]:
    """`snapshots up`, and its addresses."""
    with subprocess.Popen([*SNAPSHOTS, "up", "--json"], stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            yield json.loads(line)
        finally:
            process.terminate()
            process.wait(60)


def run(environment: dict[str, str], *arguments: str) -> dict[str, Any]:
    """One command's JSON, and the seconds that it took."""
    started = time.monotonic()
    done = subprocess.run(
        [*SNAPSHOTS, *arguments, "--json"], env=os.environ | environment, stdout=subprocess.PIPE, cwd=ROOT, check=False
    )
    if done.returncode not in {0, 1} or not done.stdout:
        raise SystemExit(f"snapshots {arguments[0]} ended with {done.returncode}")
    result: dict[str, Any] = json.loads(done.stdout)
    return {"seconds": time.monotonic() - started, **result}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
