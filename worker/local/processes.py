"""A child process that never outlives its parent.

Every child leads a session of its own, so that Ctrl-C on a terminal reaches only the parent, which then
stops its children in order. worker/local/child_guard.py handles a parent that is killed.
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
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import BinaryIO

from worker.errors import SnapshotError

_OUTPUT_BYTES = 65_536
_DISK_FULL = "the disk of its log is full: free space, or choose another with --data or TMPDIR"
"""Said if less than 64 kB are free, which is too little for any of our processes and servers."""
_REASON_LENGTH = 300
"""Maximum number of characters of a log line in an error message."""
READY_SECONDS = 120.0  # a worker needs 2 s; on a machine that is too busy for it, more than 30 s were seen
LOG_LIMIT = 16 * 1024 * 1024  # bytes; a larger log is renamed to `<name>.1` at the next start

_GUARD = [sys.executable, "-I", "-S", str(Path(__file__).with_name("child_guard.py"))]

# For the kernel the parent is the *thread* that started a child (prctl(2), PR_SET_PDEATHSIG). Therefore one thread,
# which lives as long as the process, starts them all.
_starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="starter")


class ChildFailed(SnapshotError):
    """A child process could not be started, or exited before it was ready."""

    code = "child_failed"


class Child:
    """A program that runs as a child process. Changed attributes take effect at the next start.

    `argv`: the program and its arguments. `env`: additional environment variables; None removes an inherited one.
    `log`: the file to which its output is appended (None: inherited). `ready`: returns whether it is ready. `grace`:
    seconds to exit after SIGTERM. `keep_open`: inherited file descriptors. `die_with_parent`: if False, only the guard
    ends the child of a killed parent, as on macOS.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        env: Mapping[str, str | None] | None = None,
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
        """The process id of the last start. Raises ChildFailed if it was never started."""
        if self._process is None:
            raise ChildFailed(f"{self.name} was not started")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process has been started and has not ended."""
        return self._process is not None and self.poll() is None

    def start(self) -> None:
        """Start the program unless it is running. Raises ChildFailed if it does not exist or cannot be started."""
        if self.running:
            return
        if shutil.which(self.argv[0]) is None:
            raise ChildFailed(f"{self.name}: program {self.argv[0]} not found")
        spawned = _starter.submit(self._spawn)
        try:
            spawned.result()
        except OSError as error:
            raise ChildFailed(f"{self.name} cannot be started: {error.strerror}") from error
        finally:
            wait([spawned])  # Ctrl-C may interrupt the line above, and `stop` has to know the process

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
            reaper.watch(self._process.pid)
            with contextlib.suppress(BrokenPipeError):  # it was killed already; `poll` reports that
                pipe.write(json.dumps(order).encode() + b"\n")

    def _open_log(self, path: Path) -> BinaryIO:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and path.stat().st_size > LOG_LIMIT:
            path.replace(path.with_name(f"{path.name}.1"))
        file = path.open("ab")
        self._log_start = file.seek(0, os.SEEK_END)
        return file

    def output(self) -> str:
        """Return the last 64 kB that the program has logged since its last start: mongod ends with a long stack."""
        if self.log is None or not self.log.exists():
            return ""
        with self.log.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(self._log_start, end - _OUTPUT_BYTES))
            return file.read().decode(errors="replace")

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal; None if the program is running or was never started."""
        if self._process is None:
            return None
        code = self._process.poll()
        if code is not None:
            self._end_group(self._process.pid)
        return code

    def wait(self, timeout: float) -> int | None:
        """Wait for the exit code. Returns None if the program is still running after `timeout` seconds."""
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout)
        return self.poll()

    def wait_until_ready(self, timeout: float = READY_SECONDS) -> None:
        """Wait until ready. Raises ChildFailed if the program exits or is not ready within `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while True:
            code = self.poll()
            if code is not None:
                raise ChildFailed(f"{self.name} exited with code {code}: {self.last_lines()}", exit_code=code)
            if self.ready is None or self.ready():
                return
            if self._is_disk_full():
                raise ChildFailed(f"{self.name} cannot start: {_DISK_FULL}")
            if time.monotonic() > deadline:
                raise ChildFailed(f"{self.name} was not ready within {timeout:g} s: {self.last_lines()}")
            time.sleep(0.02)

    def last_lines(self) -> str:
        """Return the last three log lines since the last start, joined.

        Of a log line in JSON only the reason is returned: the last line of its traceback, or its message. If one of the
        lines is an error message of ours, it is returned alone.
        """
        lines = [line for line in map(_reason, self.output().splitlines()[-3:]) if line]
        named = [line for line in lines if line.startswith("Error: ")]
        return _DISK_FULL if self._is_disk_full() else " | ".join(named or lines) or "no output"

    def _is_disk_full(self) -> bool:
        if self.log is None:
            return False
        disk = os.statvfs(self.log.parent)
        return disk.f_bavail * disk.f_frsize < _OUTPUT_BYTES

    def stop(self, grace: float | None = None) -> int | None:
        """Send SIGTERM to the program and, after `grace` seconds, SIGKILL to its group. Returns the exit code.

        Only the program gets the SIGTERM: one with child processes, such as a Celery worker, stops them itself.
        """
        if self._process is not None and self.poll() is None:
            self._process.terminate()
            self.wait(self.grace if grace is None else grace)
        return self.kill()

    def kill(self) -> int | None:
        """Send SIGKILL to the program and its group, and wait for the exit. Returns the exit code."""
        if self._process is None:
            return None
        if self.poll() is None:
            _kill_group(self._process.pid)
            self._process.wait()
        return self.poll()

    def restart(self, timeout: float = READY_SECONDS) -> None:
        """Restart as after a crash: SIGKILL, start, wait until ready."""
        self.kill()
        self.start()
        self.wait_until_ready(timeout)

    def _end_group(self, group: int) -> None:
        if group != self._ended:
            self._ended = group
            _kill_group(group)
            reaper.release(group)


def _reason(line: str) -> str:
    try:
        logged = json.loads(line)
        text = logged.get("exception") or logged["event"]
    except (ValueError, TypeError, KeyError, AttributeError):
        text = line
    return str(text).strip().rpartition("\n")[2][:_REASON_LENGTH]


def _kill_group(group: int) -> None:
    # macOS says EPERM when only zombies are left in the group.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


class _Reaper:
    """The guard process of this process. It runs while there are children or temporary folders."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._targets: set[int | Path] = set()
        self._process: subprocess.Popen[bytes] | None = None

    def watch(self, target: int | Path) -> None:
        """Kill this process group, or remove this folder, if this process dies."""
        with self._lock:
            self._targets.add(target)
            if self._process is None or self._process.poll() is not None:
                self._open()
            else:
                self._tell("+", target)

    def release(self, target: int | Path) -> None:
        with self._lock:
            self._targets.discard(target)
            self._tell("-", target)
            if not self._targets and self._process is not None:
                self._process.communicate()
                self._process = None

    def _open(self) -> None:
        self._process = subprocess.Popen(
            [*_GUARD, "reap"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={},  # it needs no variables, and the environment may contain secrets
            start_new_session=True,
        )
        for target in self._targets:
            self._tell("+", target)

    def _tell(self, sign: str, target: int | Path) -> None:
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):  # it was killed; the next `watch` starts another
                self._process.stdin.write(os.fsencode(f"{sign}{target}\n"))
                self._process.stdin.flush()


reaper = _Reaper()
