"""Runs the command `snapshots` as a terminal or a script does."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from support.forking import CHECKOUT, fork
from worker.settings import Settings

__all__ = ["CHECKOUT", "COMMAND", "Ended", "environment", "run", "run_at_once"]

COMMAND = [sys.executable, "-c", "from worker.cli import main; main(prog_name='snapshots')"]
_READ_AT_START = ("LANG", "LC_", "PYTHON", "TZ")


@dataclass(frozen=True)
class Ended:
    """A command that ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """What it printed; one line, or one document."""
        return json.loads(self.stdout)


def environment(settings: Settings, **more: str) -> dict[str, str]:
    """For processes that are to use a test's servers."""
    own = {
        "SNAPSHOTS_MONGO_URL": settings.mongo_url,
        "SNAPSHOTS_REDIS_URL": settings.redis_url,
        "SNAPSHOTS_MONGO_DATABASE": settings.mongo_database,
    }
    return {**os.environ, **own, **more}


def run(env: Mapping[str, str], *arguments: object, timeout: float = 60) -> Ended:
    """One command as a process: a forked one, unless its environment changes what Python reads at its start."""
    if any(env.get(name) != os.environ.get(name) for name in {*env, *os.environ} if name.startswith(_READ_AT_START)):
        argv = [*COMMAND, *(each if isinstance(each, bytes) else str(each) for each in arguments)]
        streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True}
        ended = subprocess.run(argv, env=env, cwd=CHECKOUT, timeout=timeout, check=False, **streams)
        return Ended(ended.returncode, ended.stdout, ended.stderr)
    with _begun(env, arguments) as end:
        return end(timeout)


def run_at_once(env: Mapping[str, str], orders: Sequence[Sequence[object]], timeout: float = 90) -> list[Ended]:
    """Many commands, each a process, all at once; also with arguments that no system call takes."""
    with ExitStack() as stack:
        reading, writing = os.pipe()
        with os.fdopen(reading), os.fdopen(writing, "w"):
            ends = [stack.enter_context(_begun(env, order, reading)) for order in orders]
        return [end(timeout) for end in ends]


@contextmanager
def _begun(
    env: Mapping[str, str], arguments: Sequence[object], start: int | None = None
) -> Iterator[Callable[[float], Ended]]:
    """A command that was started; the value waits for its end."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        forked = fork("snapshots", arguments, env, out, err, start)

        def end(timeout: float) -> Ended:
            code = forked.wait(timeout)
            for file in (out, err):
                file.seek(0)
            return Ended(code, out.read(), err.read())

        yield end
