"""Runs the command `snapshots` as a terminal or a script does."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worker.settings import Settings

CHECKOUT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-c", "from worker.cli import main; main(prog_name='snapshots')"]


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
    """One command as a process."""
    argv = [*COMMAND, *(each if isinstance(each, bytes) else str(each) for each in arguments)]
    ended = subprocess.run(
        argv,
        env=env,
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    return Ended(ended.returncode, ended.stdout, ended.stderr)


def run_at_once(env: Mapping[str, str], orders: Sequence[Sequence[object]], timeout: float = 90) -> list[Ended]:
    """Many commands, each a process, all at once; also with arguments that no system call takes."""
    said = json.dumps([[str(each) for each in order] for order in orders])
    ended = subprocess.run(
        [sys.executable, "-m", "tests.support.many"],
        input=said,
        env=env,
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return [Ended(**each) for each in json.loads(ended.stdout)]
