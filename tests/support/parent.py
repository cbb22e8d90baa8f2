"""A program for tests of what becomes of children: starts some, says their ids, and waits to be killed.

    python parent.py sleep LOG [guard-only]     a child that has a child of its own
    python parent.py embedded DATA|-            the embedded servers

Prints one line of JSON when all is up, `{"pids": [...], ...}`. On Ctrl-C it leaves by the exception.
"""

import json
import signal
import sys
import time
from pathlib import Path

from worker.local.embedded import embedded
from worker.local.processes import Child
from worker.local.supervisor import Supervisor

GRANDPARENT = (
    "import subprocess, sys; child = subprocess.Popen(['sleep', '600']); print(child.pid, flush=True); child.wait()"
)


def run_sleep(log: Path, *, die_with_parent: bool) -> None:
    child = Child(
        "grandparent",
        [sys.executable, "-c", GRANDPARENT],
        log=log,
        ready=lambda: child.output().endswith("\n"),
        die_with_parent=die_with_parent,
    )
    with Supervisor([child]) as supervisor:
        supervisor.start()
        print(json.dumps({"pids": [child.pid, int(child.output())]}), flush=True)
        time.sleep(600)


def run_embedded(data: Path | None) -> None:
    with embedded(data) as servers:
        said = {
            "pids": [child.pid for child in servers.children],
            "redis": servers.redis_url,
            "mongo": servers.mongo_url,
            "logs": [str(child.log) for child in servers.children],
        }
        print(json.dumps(said), flush=True)
        time.sleep(600)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell ignores it
    if sys.argv[1] == "sleep":
        run_sleep(Path(sys.argv[2]), die_with_parent="guard-only" not in sys.argv)
    else:
        run_embedded(None if sys.argv[2] == "-" else Path(sys.argv[2]))
