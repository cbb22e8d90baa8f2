"""Creates .venv, or updates it to requirements.lock, and shows the progress. Run by scripts/setup.sh.

Progress is one line that changes on a terminal, and elsewhere a line every 15 seconds. Needs only the standard library.
"""

import ctypes
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
LOCK = ROOT / "requirements.lock"
INSTALLED, UNFINISHED = VENV / ".installed", VENV / ".unfinished"
PACKAGE = re.compile(r"^([A-Za-z0-9][\w.-]*)==", re.MULTILINE)
COLLECTING = re.compile(r"Collecting ([\w.-]+)")
LIBRARIES = {"libcurl.so.4": "libcurl4", "libssl.so.3": "libssl3"}
"""Shared libraries that the embedded MongoDB is linked to, and Debian's packages with them."""
ENVIRONMENT = {
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_NO_INPUT": "1",
    "PIP_USER": "0",  # with `user = true` in the user's pip.conf, pip refuses to install into an environment
    "PYTHONUNBUFFERED": "1",
}
SECONDS_BETWEEN_LINES = 15
COLUMNS = 79


class StepFailed(Exception):
    """A step failed, and its output was printed."""


class Steps:
    """Runs programs one after the other, and shows what they do."""

    def __init__(self) -> None:
        self._started = self._printed = time.monotonic()
        self._changing = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._shown = ""

    def run(self, name: str, argv: Sequence[str | Path], total: int = 0) -> None:
        """Run a program. `total` is the number of packages that pip will collect. Raises StepFailed."""
        self._show(name, at_once=True)
        output: deque[str] = deque(maxlen=60)
        lines: queue.Queue[str | None] = queue.Queue()
        with subprocess.Popen(
            argv,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**os.environ, **ENVIRONMENT},
        ) as process:
            threading.Thread(target=_read, args=(process, lines), daemon=True).start()
            try:
                self._follow(name, lines, output, total)
            except KeyboardInterrupt:
                signal.signal(signal.SIGINT, signal.SIG_IGN)
                process.terminate()
                raise
        if process.returncode:
            self.end_line()
            sys.stderr.writelines(output)
            raise StepFailed(f"{name} failed")

    def _follow(self, name: str, lines: "queue.Queue[str | None]", output: "deque[str]", total: int) -> None:
        collected = 0
        text = name
        while True:
            try:
                line = lines.get(timeout=1)
            except queue.Empty:
                self._show(text)
                continue
            if line is None:
                return
            output.append(line)
            if total and (found := COLLECTING.match(line)):
                collected += 1
                text = f"{name}: {collected} of about {total} collected, now {found[1]}"
            elif line.startswith("Installing collected packages"):
                text = f"{name}: all are collected, now unpacking them"
            elif line.startswith("WARNING: Retrying"):
                text = f"{name}: the package index does not answer, trying again"
            self._show(text)

    def _show(self, text: str, *, at_once: bool = False) -> None:
        now = time.monotonic()
        line = f"setup: {now - self._started:3.0f} s  {text}"
        if self._changing:
            print(f"\r{line[:COLUMNS]:{len(self._shown)}}", end="", file=sys.stderr, flush=True)
            self._shown = line[:COLUMNS]
        elif at_once or now - self._printed >= SECONDS_BETWEEN_LINES:
            self._printed = now
            print(line, file=sys.stderr, flush=True)

    def end_line(self) -> None:
        """Begin a new line if the current one changes."""
        if self._changing and self._shown:
            print(file=sys.stderr)
            self._shown = ""

    def done(self) -> None:
        self._show("done", at_once=True)
        self.end_line()


def _read(process: "subprocess.Popen[str]", lines: "queue.Queue[str | None]") -> None:
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    for line in process.stdout:
        lines.put(line)
    lines.put(None)


def set_up(steps: Steps) -> None:
    """Create or update .venv. If a step fails or is interrupted, the next call creates it from the beginning.

    Raises StepFailed, KeyboardInterrupt.
    """
    _note_missing_libraries()
    python = VENV / "bin" / "python"
    if not _usable(python):
        version = ".".join(map(str, sys.version_info[:3]))
        steps.run(f"creating .venv with Python {version}", [sys.executable, "-m", "venv", "--clear", VENV])
    INSTALLED.unlink(missing_ok=True)
    UNFINISHED.touch()
    pip: list[str | Path] = [python, "-m", "pip", "install"]
    total = len(set(PACKAGE.findall(LOCK.read_text())))
    steps.run("installing packages", [*pip, "--require-hashes", "-r", LOCK], total)
    steps.run("installing this checkout", [*pip, "--no-deps", "--no-build-isolation", "-e", ROOT])
    UNFINISHED.unlink()
    INSTALLED.touch()
    steps.done()


def _note_missing_libraries() -> None:
    """Name the system packages that the embedded servers need, now and not after minutes of installing."""
    missing = [package for library, package in LIBRARIES.items() if sys.platform == "linux" and not _loads(library)]
    if missing:
        names = " ".join(missing)
        print(f"setup: the servers of `make demo` will need: apt-get install {names}", file=sys.stderr, flush=True)


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _usable(python: Path) -> bool:
    """Whether an earlier run has completed the environment, and its interpreter works and is new enough."""
    if UNFINISHED.exists() or not (VENV / "bin" / "pip").exists():
        return False
    check: list[str | Path] = [python, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]
    try:
        return subprocess.run(check, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def main() -> int:
    """Return the exit code."""
    steps = Steps()
    try:
        set_up(steps)
    except StepFailed as error:
        print(f"setup: {error}: see the lines above, then run the command again", file=sys.stderr)
        return 1
    except OSError as error:  # such as an environment that another user has created
        print(f"setup: {error.filename or VENV} cannot be used: {error.strerror}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        steps.end_line()
        print("setup: interrupted; run the command again to start over", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
