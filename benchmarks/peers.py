"""Other job systems, run by a program `run` in the folder that holds them; each reads the same data.

They write collections and keys of their own. See that folder's README for what they do and how they are timed.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from benchmarks.runs import Run
from benchmarks.session import DATABASE, Session

_HOME = "PEERS_HOME"
_PARTS = {"worker": "worker", "mongod": "mongod", "broker": "valkey"}


class PeerFailed(Exception):
    """A peer did not do its jobs."""


def set_up(folder: Path) -> None:
    """Install them under $PEERS_HOME unless that was done before. Raises CalledProcessError."""
    home = Path(os.environ.get(_HOME) or Path.home() / ".cache" / "snapshot-peers")
    if not (home / "servers").exists():
        subprocess.run([str(folder / "setup")], check=True)


def rate(session: Session, number: int, name: str) -> Run:
    """Measure how fast one contender drains its backlog. Raises PeerFailed."""
    report = _run(session, name, "--jobs", str(session.options.amounts.peer))
    costs = {
        "cpu_us": {_PARTS[part]: spent for part, spent in (report["cpu_us_per_job"] or {}).items()},
        "core_speed": report["core_speed"],
        "foreign": report["foreign_cpu"],
        "idle": report["idle"],
    }
    return Run(name, number, report["jobs"], report["rate"], costs)


def latency(session: Session, name: str, per_second: float, count: int) -> dict[str, float]:
    """Return `p50_ms`, `p99_ms` and `core_speed` of one contender. Raises PeerFailed."""
    report = _run(session, name, "--mode", "latency", "--rate", f"{per_second:g}", "--jobs", str(count))
    return {key: report[key] for key in ("p50_ms", "p99_ms", "core_speed")}


def _run(session: Session, name: str, *arguments: str) -> dict[str, Any]:
    folder = session.options.peers
    if folder is None:
        raise PeerFailed("no folder of peers was given; use --peers")
    session.clear()
    servers = ["--mongo", session.servers.mongo_url, "--redis", session.servers.redis_url, "--database", DATABASE]
    ended = subprocess.run(
        [str(folder / "run"), name, "tx", *servers, *arguments], capture_output=True, text=True, check=False
    )
    if ended.returncode:
        raise PeerFailed(f"{name}: {ended.stderr.strip()[-300:]}")
    report: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return report
