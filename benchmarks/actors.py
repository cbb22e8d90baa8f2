"""Child processes that start, wait for a cue, do their part and report, so that only the part is timed.

The child says `ready` on a line, reads a line, and then writes its report as a line of JSON.
"""

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from benchmarks.session import Session

_LOOK_SECONDS = 0.2
CHECKOUT = Path(__file__).parent.parent


def perform(part: Callable[[], dict[str, Any] | None]) -> None:
    """Run in the child. The report has `began`, `ended` (epoch), `cpu` in seconds, and the part's result."""
    print("ready", flush=True)
    if not sys.stdin.readline():
        return  # the parent is gone
    spent, began = time.process_time(), time.time()
    given = part() or {}
    report = {"began": began, "ended": time.time(), "cpu": time.process_time() - spent, **given}
    print(json.dumps(report), flush=True)


class ActorFailed(Exception):
    """A child process of the benchmarks ended before its report; its log says why."""


class Actor:
    """The parent's side of `python -m <arguments>`, which is ready once the `with` block is entered."""

    def __init__(self, session: Session, *arguments: object) -> None:
        self._command = [sys.executable, "-m", *map(str, arguments)]
        self._log = session.folder / "actors.log"
        self._environment = os.environ | session.environment

    def __enter__(self) -> Self:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=CHECKOUT,
                env=self._environment,
                text=True,
            )
        if self._line() != "ready":
            raise self._failed()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    @property
    def pid(self) -> int:
        return self._process.pid

    def cue(self) -> None:
        """Tell the child to begin."""
        if self._process.stdin is None:
            raise self._failed()
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def report(self, look: Callable[[], None] = lambda: None) -> dict[str, Any]:
        """Wait for the report, calling `look` meanwhile. Raises ActorFailed."""
        if self._process.stdout:
            while not select.select([self._process.stdout.fileno()], [], [], _LOOK_SECONDS)[0]:
                look()
        if not (line := self._line()):
            raise self._failed()
        report: dict[str, Any] = json.loads(line)
        return report

    def _line(self) -> str:
        return self._process.stdout.readline().strip() if self._process.stdout else ""

    def _failed(self) -> ActorFailed:
        output = self._log.read_text(errors="replace").splitlines()[-8:]
        return ActorFailed("\n".join([" ".join(self._command[1:]), *output]))
