"""Forks the project's programs from a server that has imported the libraries, which saves each a second.

There is one server for each process of the tests: it starts with the first program and ends with the tests. A forked
program has arguments, environment and files of its own, and ends as any other; but what Python or a library reads from
the environment at its start is that of the tests.
"""

import atexit
import functools
import gc
import importlib
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

CHECKOUT = Path(__file__).parents[2]
_NUMBER = struct.Struct("i")
_IMPORTED = ("celery.bin.celery", "rich.progress", "rich.table", "worker.cli.options", "worker.cli.shared")
"""Libraries, and what all commands share. The modules of a command itself are imported after the fork."""
_SIGNALS = (signal.SIGCHLD, signal.SIGINT)


class Forked:
    """A program that was forked. `pid` is its process."""

    def __init__(self, status: IO[bytes]) -> None:
        self._status = status
        self.pid = self._read()

    def _read(self) -> int:
        (number,) = _NUMBER.unpack(self._status.read(_NUMBER.size))
        return int(number)

    def has_ended(self, timeout: float) -> bool:
        """Whether it ends within so many seconds."""
        return bool(select.select([self._status], [], [], timeout)[0])

    def wait(self, timeout: float) -> int:
        """The exit code, negative for a signal. Kills it after `timeout` seconds and raises TimeoutExpired."""
        if not self.has_ended(timeout):
            os.kill(self.pid, signal.SIGKILL)
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout)
        with self._status:
            return self._read()


def fork(
    program: str,
    arguments: Sequence[object],
    env: Mapping[str, str],
    stdout: IO[Any],
    stderr: IO[Any],
    start: int | None = None,
) -> Forked:
    """Run `snapshots`, `celery` or `liveness` in a process of its own.

    `start`: a pipe; the program begins once its other end is closed.
    """
    order = {"program": program, "arguments": [os.fsdecode(_word(each)) for each in arguments], "env": dict(env)}
    reading, writing = os.pipe()
    with tempfile.TemporaryFile() as file, Path(os.devnull).open("rb") as at_once, os.fdopen(writing, "wb") as status:
        file.write(json.dumps(order).encode())
        file.seek(0)
        files = [each.fileno() for each in (file, stdout, stderr, status)]
        socket.send_fds(_server(), [b"+"], [*files, at_once.fileno() if start is None else start])
    return Forked(os.fdopen(reading, "rb", buffering=0))


def _word(argument: object) -> str | bytes:
    return argument if isinstance(argument, bytes) else str(argument)


@functools.cache
def _server() -> socket.socket:
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.forking", str(theirs.fileno())],
            cwd=CHECKOUT,
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        )

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


# --- the server -----------------------------------------------------------------------------------------


def _serve(orders: socket.socket) -> int:
    """Fork a process for each order. Returns at the end of the tests, and in each forked process its exit code."""
    before = [signal.signal(each, lambda *_: None) for each in _SIGNALS]
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    running: dict[int, int] = {}
    while True:
        ready, _, _ = select.select([orders.fileno(), woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
            _reap(running)
        if orders.fileno() in ready:
            _, files, _, _ = socket.recv_fds(orders, 1, 5)
            if not files:
                for pid in running:
                    os.kill(pid, signal.SIGKILL)
                return 0
            pid = os.fork()
            if not pid:
                signal.set_wakeup_fd(-1)
                for number, handler in zip(_SIGNALS, before, strict=True):
                    signal.signal(number, handler)
                for each in (orders.detach(), woken, wake, *running.values()):
                    os.close(each)
                return _run(files)
            os.write(files[3], _NUMBER.pack(pid))
            running[pid] = files.pop(3)
            for each in files:
                os.close(each)


def _reap(running: dict[int, int]) -> None:
    """Tell the exit codes of those that have ended."""
    while running:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        with os.fdopen(running.pop(pid), "wb") as file:
            file.write(_NUMBER.pack(os.waitstatus_to_exitcode(status)))


def _run(files: Iterable[int]) -> int:
    order, stdout, stderr, status, start = files
    with os.fdopen(order, "rb") as file:
        said = json.load(file)
    for number, opened in ((0, os.open(os.devnull, os.O_RDONLY)), (1, stdout), (2, stderr)):
        os.dup2(opened, number)
        os.close(opened)
    os.close(status)
    os.environ.clear()
    os.environ.update(said["env"])
    os.read(start, 1)
    os.close(start)
    return _main(said["program"], said["arguments"])


def _main(program: str, arguments: list[str]) -> int:
    sys.argv = ["-c", *arguments]
    if program == "snapshots":
        from worker.cli import main

        main(prog_name="snapshots")
    elif program == "celery":
        from celery.bin.celery import main as celery

        sys.argv[0] = "celery"
        return int(celery() or 0)
    else:
        from worker.doctor.liveness import main as liveness

        sys.exit(liveness(arguments))
    return 0


if __name__ == "__main__":
    for name in _IMPORTED:
        importlib.import_module(name)
    gc.freeze()  # a collection in a forked process would copy the pages of all these objects
    sys.exit(_serve(socket.socket(fileno=int(sys.argv[1]))))
