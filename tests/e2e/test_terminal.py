"""Commands on a terminal: questions, and Ctrl-C."""

import os
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
from pymongo.database import Database

from support.contacts import contact_with
from support.pipeline import accept, run_accepted
from support.terminal import CTRL_C, on_a_terminal
from support.waiting import eventually
from worker.service import Service

Env = dict[str, str]


def test_redrive_asks_on_a_terminal(env: Env, own: Database[dict[str, Any]], service: Service) -> None:
    contact = contact_with(own, 0)
    accept(service, contact.organization, contact.id, "r")
    run_accepted(service)
    for answer, code in ((b"n\n", 1), (CTRL_C, 130), (b"y\n", 0)):
        assert answer_on_a_terminal(env, answer, "requests", "redrive", "--status", "failed") == code
        assert own.snapshotrequests.count_documents({"status": "accepted"}) == (code == 0)


def answer_on_a_terminal(env: Env, answer: bytes, *arguments: str) -> int:
    """The exit code of a command whose question gets this answer."""
    with on_a_terminal(env, *arguments) as terminal:
        stop_at, again_at = time.monotonic() + 60, 0.0
        while terminal.process.poll() is None:
            assert time.monotonic() < stop_at, terminal.printed
            terminal.read()
            if "[y/N]" in terminal.printed and time.monotonic() > again_at:
                # Once more after a while: Python sleeps through a Ctrl-C that comes just before it begins to read.
                again_at = time.monotonic() + 8
                terminal.press(answer)
        return terminal.process.returncode


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("command", "stage"),
    [
        ("up", "starting MongoDB"),
        ("up", "starting worker2"),
        pytest.param("demo", "requesting snapshots", marks=pytest.mark.acceptance),
    ],
)
def test_ctrl_c_during_the_start_ends_with_130_and_leaves_nothing(tmp_path: Path, command: str, stage: str) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SNAPSHOTS_")}
    with on_a_terminal(clean | {"TMPDIR": str(tmp_path)}, command) as terminal:
        terminal.read_until(stage)
        children = psutil.Process(terminal.process.pid).children(recursive=True)
        terminal.press(CTRL_C)
        terminal.read_until("stopping")
        terminal.press(CTRL_C)  # does not interrupt the stopping
        assert terminal.wait() == 130
    assert "Traceback" not in terminal.printed
    eventually(lambda: not [each for each in children if each.is_running()] and not list(tmp_path.iterdir()), 20)


@pytest.mark.parametrize("command", ["import", "request", "request --all", "events"])
def test_ctrl_c_says_how_to_resume(env: Env, own: Database[dict[str, Any]], tmp_path: Path, command: str) -> None:
    contact = contact_with(own, 1)
    organization = ["--organization", contact.organization]
    unread = tmp_path / "conversations.jsonl"
    os.mkfifo(unread)  # nobody writes to it, so the import waits
    arguments: dict[str, tuple[list[Any], list[str]]] = {
        "import": (["import", unread, *organization], ["Resume with: snapshots import "]),
        "request": (
            ["request", *organization, "--contact", contact.id, "--wait"],
            ["snapshots requests show ", "repeat it with --request-id "],
        ),
        "request --all": (["request", *organization, "--all"], ["Watch it with: snapshots backfill show "]),
        "events": (["events", "--follow"], ["Interrupted. Continue with --after 1-0."]),
    }
    argv, hints = arguments[command]
    with redis.Redis.from_url(env["SNAPSHOTS_REDIS_URL"]) as client:
        client.xadd("snapshots:events", {"event": '{"id": "e", "type": "failed", "time": "t", "data": {}}'}, "1-0")
    with on_a_terminal(env, *argv) as terminal:
        if command in ("import", "events"):
            terminal.read_until({"import": "Importing", "events": "1-0"}[command])
        else:
            eventually(lambda: own.snapshotrequests.count_documents({}) == 1, 60)
        assert terminal.interrupt() == 130
    assert "Traceback" not in terminal.printed
    assert any(hint in " ".join(terminal.printed.split()) for hint in hints)
