"""Runs a command on a terminal of its own."""

import contextlib
import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping
from typing import Any

from support.commands import CHECKOUT

# A session's first process gets the terminal that it opens, and with it Ctrl-C.
_ON_ITS_TERMINAL = "import os; os.open(os.ttyname(0), os.O_RDWR); from worker.cli import main; main()"
CTRL_C = b"\x03"


class Terminal:
    """A `snapshots` command on a terminal of 80 x 24. `printed` is everything that it has printed so far."""

    def __init__(self, env: Mapping[str, str], *arguments: object) -> None:
        self._terminal, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        argv = [sys.executable, "-c", _ON_ITS_TERMINAL, *(str(each) for each in arguments)]
        streams: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), theirs)
        self.process = subprocess.Popen(
            argv, env={"TERM": "xterm-256color", **env}, cwd=CHECKOUT, start_new_session=True, **streams
        )
        os.close(theirs)
        self.printed = ""

    def press(self, keys: bytes) -> None:
        with contextlib.suppress(OSError):  # it has ended
            os.write(self._terminal, keys)

    def read(self) -> None:
        """Read what is there within a fifth of a second."""
        if select.select([self._terminal], [], [], 0.2)[0]:
            with contextlib.suppress(OSError):  # the other end is closed
                self.printed += os.read(self._terminal, 4096).decode(errors="replace")

    def read_until(self, text: str, seconds: float = 60) -> None:
        stop_at = time.monotonic() + seconds
        while text not in self.printed:
            assert time.monotonic() < stop_at, self.printed
            ended, before = self.process.poll() is not None, len(self.printed)
            self.read()
            assert not ended or len(self.printed) > before, self.printed

    def wait(self, seconds: float = 60) -> int:
        """Return the exit code, after reading everything."""
        stop_at = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < stop_at, self.printed
            self.read()
        before = -1
        while len(self.printed) > before:
            before = len(self.printed)
            self.read()
        return self.process.returncode

    def interrupt(self, seconds: float = 60) -> int:
        """Press Ctrl-C and return the exit code.

        Press it again after a while: Python sleeps through one that comes just before a call that waits.
        """
        stop_at = time.monotonic() + seconds
        while self.process.poll() is None and time.monotonic() < stop_at:
            self.press(CTRL_C)
            again_at = time.monotonic() + 8
            while self.process.poll() is None and time.monotonic() < again_at:
                self.read()
        return self.wait(max(0.0, stop_at - time.monotonic()))

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._terminal)


@contextlib.contextmanager
def on_a_terminal(env: Mapping[str, str], *arguments: object) -> Iterator[Terminal]:
    """Start a command; kill it at the end if it is still running."""
    terminal = Terminal(env, *arguments)
    try:
        yield terminal
    finally:
        terminal.close()
