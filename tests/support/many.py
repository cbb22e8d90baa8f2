"""Runs the command `snapshots` many times concurrently, each in a process of its own.

The processes are forked after the imports, which saves each a second, and start together. Reads
`[[argument, ...], ...]` as JSON, prints `[{"code", "stdout", "stderr"}, ...]`.
"""

import json
import os
import sys
import tempfile
import traceback
from pathlib import Path

import worker.cli.events
import worker.cli.requesting
import worker.cli.requests
import worker.cli.snapshots
import worker.cli.status  # noqa: F401 - imported once, for all forked processes
from worker.cli import main


def run_child(folder: Path, start: int, arguments: list[str]) -> None:
    os.read(start, 1)  # returns at end of file, when the parent closes the pipe
    for number, name in ((1, "stdout"), (2, "stderr")):
        opened = os.open(folder / name, os.O_WRONLY | os.O_CREAT)
        os.dup2(opened, number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    code = 1
    try:
        main.main(arguments, prog_name="snapshots")
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:  # noqa: BLE001 - must not escape into the parent's code
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def run_all(folder: Path, orders: list[list[str]]) -> list[dict[str, object]]:
    start, go = os.pipe()
    children = []
    for number, arguments in enumerate(orders):
        own = folder / str(number)
        own.mkdir()
        pid = os.fork()
        if not pid:
            os.close(go)
            run_child(own, start, arguments)
        children.append((pid, own))
    os.close(go)
    results = []
    for pid, own in children:
        _, status = os.waitpid(pid, 0)
        texts = {name: (own / name).read_text() for name in ("stdout", "stderr")}
        results.append({"code": os.waitstatus_to_exitcode(status), **texts})
    return results


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        print(json.dumps(run_all(Path(temporary), json.load(sys.stdin))))
