"""Commands that ask, on a terminal."""

import contextlib
import os
import pty
import select
import subprocess
import sys
import time
from typing import Any

from pymongo.database import Database

from support.commands import CHECKOUT
from support.contacts import contact_with
from support.pipeline import accept, run_accepted
from worker.service import Service

Env = dict[str, str]

# A session's first process gets the terminal that it opens, and with it Ctrl-C.
_ON_ITS_TERMINAL = "import os; os.open(os.ttyname(0), os.O_RDWR); from worker.cli import main; main()"


def test_redrive_asks_on_a_terminal(env: Env, own: Database[dict[str, Any]], service: Service) -> None:
    contact = contact_with(own, 0)
    accept(service, contact.organization, contact.id, "r")
    run_accepted(service)
    for answer, code in ((b"n\n", 1), (b"\x03", 130), (b"y\n", 0)):
        assert answer_on_a_terminal(env, answer, "requests", "redrive", "--status", "failed") == code
        assert own.snapshotrequests.count_documents({"status": "accepted"}) == (code == 0)


def answer_on_a_terminal(env: Env, answer: bytes, *arguments: str) -> int:
    """The exit code of a command whose question gets this answer."""
    terminal, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", _ON_ITS_TERMINAL, *arguments],
        env=env,
        cwd=CHECKOUT,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    try:
        os.close(theirs)
        stop_at = time.monotonic() + 60
        said, again_at = b"", 0.0
        while process.poll() is None:
            assert time.monotonic() < stop_at, said
            said += _read(terminal)
            if b"[y/N]" in said and time.monotonic() > again_at:
                # Once more after a while: Python sleeps through a Ctrl-C that comes just before it begins to read.
                again_at = time.monotonic() + 8
                with contextlib.suppress(OSError):
                    os.write(terminal, answer)
        return process.wait()
    finally:
        process.kill()
        process.wait()
        os.close(terminal)


def _read(terminal: int) -> bytes:
    """What is there within a fifth of a second; nothing once the other end is closed."""
    if not select.select([terminal], [], [], 0.2)[0]:
        return b""
    try:
        return os.read(terminal, 1024)
    except OSError:
        return b""
