"""A backfill of many conversations that is killed again and again, and one that is cancelled half-way.

CONVERSATIONS names a folder of conversations. Without it, the samples are imported many times.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId

from acceptance import SAMPLES, conversation_files
from support.commands import CHECKOUT, COMMAND, environment, run
from support.comparing import compare, read
from support.stack import Running, stack
from support.waiting import eventually
from worker.settings import Settings

KILLS = 5
COPIES = 400
"""How many times the samples are imported."""

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(900)]


@pytest.fixture
def running(settings: Settings, tmp_path: Path) -> Iterator[Running]:
    # A killed process is noticed after twice the run deadline.
    with stack(settings, tmp_path / "stack", {"RUN_DEADLINE": "2s"}) as made:
        yield made


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """The files of the conversations."""
    if folder := os.environ.get("CONVERSATIONS"):
        return conversation_files(Path(folder))
    path = tmp_path / "copies.jsonl"
    with path.open("w") as lines:
        for source in read(conversation_files(SAMPLES)):
            ref = source["conversation"]["ref"]
            for copy in range(COPIES):
                source["conversation"]["ref"] = f"{ref} {copy}"
                lines.write(json.dumps(source) + "\n")
    return [path]


class Backfilled:
    """An organization with all conversations, and its backfill."""

    def __init__(self, running: Running, settings: Settings, files: list[Path]) -> None:
        self.running, self.env, self.files = running, environment(settings), files
        self.organization = ObjectId()
        imported = run(self.env, "import", *files, "--organization", self.organization, "--json", timeout=600)
        self.conversations: int = imported.json["stored"]
        self.argv = [*COMMAND, "backfill", "--organization", str(self.organization), "--json"]

    def requests(self) -> int:
        """How many conversations have a request."""
        mine = {"organizationId": self.organization}
        return self.running.database.snapshotrequests.count_documents(mine)

    def wait_for(self, part: float) -> None:
        """Wait until so much of the conversations has a request."""
        eventually(lambda: self.requests() >= part * self.conversations, 120, 0.01)

    def job(self) -> dict[str, Any]:
        """The only job of the organization, as `snapshots backfill show` prints it."""
        (listed,) = run(self.env, "backfill", "list", "--organization", self.organization, "--json").json["backfills"]
        shown: dict[str, Any] = run(self.env, "backfill", "show", listed["id"], "--json").json
        return shown


def test_backfill_that_is_killed_five_times_makes_each_snapshot_once(
    running: Running, settings: Settings, files: list[Path]
) -> None:
    own = Backfilled(running, settings, files)
    command = subprocess.Popen(own.argv, env=own.env, cwd=CHECKOUT, stdout=subprocess.PIPE)
    with command:
        own.wait_for(1 / (KILLS + 2))
        command.kill()
    assert own.requests() < own.conversations
    for kill in range(1, KILLS):
        own.wait_for((kill + 1) / (KILLS + 2))
        assert own.requests() < own.conversations, "it ended before it was killed"
        running.worker.restart(180)
    eventually(lambda: own.job()["status"] == "completed", 180, 0.5)
    job = own.job()
    print(f"{own.conversations} conversations, {KILLS} kills: {job}")
    compared = compare(files, running.database, own.organization)
    assert not compared.differences
    assert (compared.conversations, job["requests"]) == (own.conversations, own.conversations)
    assert job["completed"] == own.conversations - compared.empty
    again = json.loads(subprocess.run(own.argv, env=own.env, cwd=CHECKOUT, capture_output=True, check=False).stdout)
    assert (again["accepted"], own.requests()) == (0, own.conversations), "a repetition accepts nothing"


def test_cancelled_backfill_accepts_nothing_more_and_what_it_accepted_has_an_outcome(
    running: Running, settings: Settings, files: list[Path]
) -> None:
    own = Backfilled(running, settings, files)
    with subprocess.Popen(own.argv, env=own.env, cwd=CHECKOUT, stdout=subprocess.PIPE) as command:
        own.wait_for(0.3)
        (job,) = run(own.env, "backfill", "list", "--organization", own.organization, "--json").json["backfills"]
        assert run(own.env, "backfill", "cancel", job["id"], "--json").json["status"] == "cancelled"
        command.communicate(timeout=120)
    accepted = own.requests()  # with the page that was in flight
    print(f"cancelled after {accepted} of {own.conversations}")
    assert accepted < own.conversations
    open_ = {"organizationId": own.organization, "status": "accepted"}
    eventually(lambda: not running.database.snapshotrequests.count_documents(open_), 120, 0.1)
    assert own.requests() == accepted
    differences = compare(files, running.database, own.organization).differences
    assert all(each.endswith("has no request") or "snapshots" in each for each in differences), differences[:5]
