"""Runs tests/support/parent.py as a real process that a test then kills."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

from support.waiting import eventually

CHECKOUT = Path(__file__).parents[2]


@contextlib.contextmanager
def parent(
    *arguments: str, env: Mapping[str, str] | None = None
) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, Any]]]:
    """The process and what it said. Whatever it leaves is killed in the end."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.support.parent", *arguments], stdout=subprocess.PIPE, cwd=CHECKOUT, env=env
    ) as process:
        said: dict[str, Any] = {}
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, "the parent ended before its children were up"
            said = json.loads(line)
            yield process, said
        finally:
            process.kill()
            kill_all(said.get("pids", []))


def guards_of(pid: int) -> list[int]:
    """The ids of worker/local/child_guard.py's processes below this one."""
    return [each.pid for each in psutil.Process(pid).children() if "child_guard.py" in " ".join(each.cmdline())]


def kill_all(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(pid).kill()


def alive(pids: list[int]) -> list[int]:
    """Those that run; a zombie that waits for its parent does not."""
    running = []
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                running.append(pid)
    return running


def wait_until_gone(pids: list[int], timeout: float = 10.0) -> None:
    """Raises AssertionError with what is left."""

    def check() -> bool:
        assert alive(pids) == []
        return True

    eventually(check, timeout)
