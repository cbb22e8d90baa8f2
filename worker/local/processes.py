"""A child process that never outlives its parent.

Every child leads a session of its own, so that Ctrl-C on a terminal reaches only the parent, which then
stops its children in order. What happens when the parent is killed stands in worker/local/child_guard.py.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

from worker.errors import SnapshotError

LOG_LIMIT = 16 * 1024 * 1024  # bytes; a log that is larger at a start is put aside as `<name>.1`

_GUARD = [sys.executable, "-I", "-S", str(Path(__file__).with_name("child_guard.py"))]

# The kernel takes the *thread* that started a child for its parent (prctl(2), PR_SET_PDEATHSIG), so one
# thread that lives as long as the process starts them all.
_starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="starter")


class ChildFailed(SnapshotError):
    """A child process could not be started, or ended before it was ready."""

    code = "child_failed"


class Child:
    """One program, run as a child. What is changed of it counts from the next start on.

    `argv`: the program and its arguments. `env`: added to the environment. `log`: the file that its output is
    appended to (None: passed through). `ready`: tells whether it does its work yet. `grace`: seconds that it
    has to end after SIGTERM. `keep_open`: file descriptors that it inherits. `die_with_parent`: off, only the
    guard ends a killed parent's child, as on macOS.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        env: Mapping[str, str] | None = None,
        log: Path | None = None,
        *,
        ready: Callable[[], bool] | None = None,
        grace: float = 10.0,
        keep_open: Iterable[int] = (),
        die_with_parent: bool = True,
    ) -> None:
        self.name = name
        self.argv = list(argv)
        self.env = dict(env or {})
        self.log = log
        self.grace = grace
        self.ready = ready
        self._die_with_parent = die_with_parent
        self._keep_open = tuple(keep_open)
        self._log_start = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._ended: int | None = None

    @property
    def pid(self) -> int:
        """Of the last start. Raises ChildFailed if there was none."""
        if self._process is None:
            raise ChildFailed(f"{self.name} was not started")
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self.poll() is None

    def start(self) -> None:
        """Run the program, unless it runs. Raises ChildFailed if it does not exist or cannot be started now."""
        if self.running:
            return
        if shutil.which(self.argv[0]) is None:
            raise ChildFailed(f"{self.name}: there is no program {self.argv[0]}")
        try:
            _starter.submit(self._spawn).result()
        except OSError as error:
            raise ChildFailed(f"{self.name} cannot be started: {error.strerror}") from error

    def _spawn(self) -> None:
        order = {"argv": self.argv, "env": self.env, "die_with_parent": self._die_with_parent}
        reading, writing = os.pipe()
        with os.fdopen(writing, "wb", buffering=0) as pipe:
            with contextlib.ExitStack() as inherited:
                inherited.callback(os.close, reading)
                output = inherited.enter_context(self._open_log(self.log)) if self.log else None
                self._process = subprocess.Popen(
                    [*_GUARD, "launch", str(reading), str(os.getpid())],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    pass_fds=(reading, *self._keep_open),
                    start_new_session=True,
                )
            _reaper.watch(self._process.pid)
            with contextlib.suppress(BrokenPipeError):  # someone killed it already, which poll tells
                pipe.write(json.dumps(order).encode() + b"\n")

    def _open_log(self, path: Path) -> BinaryIO:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and path.stat().st_size > LOG_LIMIT:
            path.replace(path.with_name(f"{path.name}.1"))
        file = path.open("ab")
        self._log_start = file.seek(0, os.SEEK_END)
        return file

    def output(self) -> str:
        """The last 4 kB that the program wrote to its log since its last start."""
        if self.log is None or not self.log.exists():
            return ""
        with self.log.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(self._log_start, end - 4096))
            return file.read().decode(errors="replace")

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while the program runs, or was never started."""
        if self._process is None:
            return None
        code = self._process.poll()
        if code is not None:
            self._end_group(self._process.pid)
        return code

    def wait(self, timeout: float) -> int | None:
        """The exit code, or None when the program still runs after `timeout` seconds."""
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout)
        return self.poll()

    def wait_until_ready(self, timeout: float = 30.0) -> None:
        """Raises ChildFailed when the program ends before, or is not ready after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while True:
            code = self.poll()
            if code is not None:
                raise ChildFailed(f"{self.name} ended with exit code {code}: {self.last_lines()}", exit_code=code)
            if self.ready is None or self.ready():
                return
            if time.monotonic() > deadline:
                raise ChildFailed(f"{self.name} was not ready within {timeout:g} s: {self.last_lines()}")
            time.sleep(0.02)

    def last_lines(self) -> str:
        """The last three that it wrote since its last start, in one."""
        return " | ".join(self.output().splitlines()[-3:]) or "it wrote nothing"

    def stop(self, grace: float | None = None) -> int | None:
        """SIGTERM to the program, and after `grace` seconds SIGKILL to its whole group. Gives the exit code.

        The SIGTERM goes to the program alone: one that has processes of its own (a Celery worker) ends them itself.
        """
        if self._process is not None and self.poll() is None:
            self._process.terminate()
            self.wait(self.grace if grace is None else grace)
        return self.kill()

    def kill(self) -> int | None:
        """SIGKILL to the program and all of its group, and wait for its end."""
        if self._process is None:
            return None
        if self.poll() is None:
            _kill_group(self._process.pid)
            self._process.wait()
        return self.poll()

    def restart(self, timeout: float = 30.0) -> None:
        """As a crash: SIGKILL, start, and wait until ready."""
        self.kill()
        self.start()
        self.wait_until_ready(timeout)

    def _end_group(self, group: int) -> None:
        if group != self._ended:
            self._ended = group
            _kill_group(group)
            _reaper.release(group)


def _kill_group(group: int) -> None:
    # macOS says EPERM when only zombies are left in the group.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


class _Reaper:
    """The guard process of this process, there while there are children."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._groups: set[int] = set()
        self._process: subprocess.Popen[bytes] | None = None

    def watch(self, group: int) -> None:
        with self._lock:
            self._groups.add(group)
            if self._process is None or self._process.poll() is not None:
                self._open()
            else:
                self._tell(b"+", group)

    def release(self, group: int) -> None:
        with self._lock:
            self._groups.discard(group)
            self._tell(b"-", group)
            if not self._groups and self._process is not None:
                self._process.communicate()
                self._process = None

    def _open(self) -> None:
        self._process = subprocess.Popen(
            [*_GUARD, "reap"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        for group in self._groups:
            self._tell(b"+", group)

    def _tell(self, sign: bytes, group: int) -> None:
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):  # someone killed it; the next watch opens another
                self._process.stdin.write(b"%s%d\n" % (sign, group))
                self._process.stdin.flush()


_reaper = _Reaper()
