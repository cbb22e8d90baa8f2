"""Runs the project's programs, a few at a time."""

import os
import re
import signal
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from support.forking import fork

_SECONDS = 90.0
"""After which a program that does not end by itself is ended."""
_AT_A_TIME = 3
_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Order:
    """A program to run: snapshots, celery or liveness. `environment` changes this process's.

    `until`: the pattern of output after which it may be ended; empty if it ends by itself.
    """

    program: str
    arguments: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    until: str = ""


@dataclass(frozen=True)
class Ended:
    """A program that ended: what it wrote to both standard streams, and how long it ran."""

    code: int
    output: str
    seconds: float


def run_programs(orders: Sequence[Order]) -> list[Ended]:
    """Run programs; the results are in the same order."""
    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        return list(pool.map(_run, orders))


def _run(order: Order) -> Ended:
    with tempfile.NamedTemporaryFile("w+", errors="replace") as file:
        forked = fork(order.program, order.arguments, {**os.environ, **order.environment}, file, file)
        until, began = re.compile(order.until), time.monotonic()
        with Path(file.name).open(errors="replace") as reading:  # with an offset of its own
            while not forked.has_ended(_POLL_SECONDS):
                reading.seek(0)
                if time.monotonic() > began + _SECONDS or (order.until and until.search(reading.read())):
                    os.kill(forked.pid, signal.SIGALRM)
                    break
            ended = time.monotonic()
            code = forked.wait(_SECONDS)
            reading.seek(0)
            return Ended(code, reading.read(), ended - began)
