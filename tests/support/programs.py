"""Runs the project's programs in processes that are forked after the imports, which saves each a second.

Reads `[{"program", "arguments", "environment", "until"}, ...]` as JSON and prints `[{"code", "output"}, ...]`.
`program`: snapshots, celery or liveness. `environment` changes this process's. A few run at a time. A program that
waits for something is ended once its output matches `until`.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).parents[2]
_SECONDS = 90
"""After which a program that does not end by itself is ended."""
_AT_A_TIME = 3
_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Order:
    """A program to run. `until`: the pattern of output after which it may be ended; empty if it ends by itself."""

    program: str
    arguments: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    until: str = ""


@dataclass(frozen=True)
class Ended:
    """A program that ended. `output` is what it wrote to both standard streams."""

    code: int
    output: str


def run_programs(orders: Sequence[Order]) -> list[Ended]:
    """Run programs; the results are in the same order."""
    ended = subprocess.run(
        [sys.executable, "-m", "tests.support.programs"],
        input=json.dumps([asdict(order) for order in orders]),
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=60 + _SECONDS * len(orders),
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return [Ended(**each) for each in json.loads(ended.stdout)]


# --- the forking process --------------------------------------------------------------------------------


def _main(program: str, arguments: list[str]) -> int | str | None:
    if program == "snapshots":
        from worker.cli import main

        main.main(arguments, prog_name="snapshots")
    elif program == "celery":
        from celery.bin.celery import main as celery

        sys.argv = ["celery", *arguments]
        return int(celery() or 0)
    else:
        from worker.doctor.liveness import main as liveness

        return liveness(arguments)
    return 0


def _run_child(file: Path, order: dict[str, Any]) -> None:
    signal.alarm(_SECONDS)
    opened = os.open(file, os.O_WRONLY | os.O_CREAT)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(opened, 1)
    os.dup2(opened, 2)
    os.environ.update(order["environment"])
    code: int | str | None = 1
    try:
        code = _main(order["program"], order["arguments"])
    except SystemExit as ended:
        code = ended.code
        if isinstance(code, str):
            print(code, file=sys.stderr)
    except BaseException:  # noqa: BLE001 - must not escape into the parent's code
        code = 1
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


def _run_all(folder: Path, orders: list[dict[str, Any]]) -> list[dict[str, object]]:
    codes: dict[int, int] = {}
    running: dict[int, int] = {}

    def output(number: int) -> str:
        file = folder / str(number)
        return file.read_text(errors="replace") if file.exists() else ""

    def reap() -> None:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid:
            codes[running.pop(pid)] = os.waitstatus_to_exitcode(status)
            return
        for pid, number in running.items():
            if (until := orders[number]["until"]) and re.search(until, output(number)):
                os.kill(pid, signal.SIGALRM)
        time.sleep(_POLL_SECONDS)

    for number, order in enumerate(orders):
        while len(running) >= _AT_A_TIME:
            reap()
        pid = os.fork()
        if not pid:
            _run_child(folder / str(number), order)
        running[pid] = number
    while running:
        reap()
    return [{"code": codes[number], "output": output(number)} for number in range(len(orders))]


def _import_all() -> None:

    import worker.celery
    import worker.cli.doctor
    import worker.cli.listening
    import worker.cli.status
    import worker.doctor.liveness  # noqa: F401 - imported once, for all forked processes


if __name__ == "__main__":
    _import_all()
    with tempfile.TemporaryDirectory() as temporary:
        print(json.dumps(_run_all(Path(temporary), json.load(sys.stdin))))
