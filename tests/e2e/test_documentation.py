"""The commands and snippets of README and docs/ run as they are printed, against README's own `snapshots up`.

Run by `make acceptance`; that no block is left out is checked by tests/unit/test_documentation.py.

tests/support/documentation.py says which blocks are run here, which elsewhere, and why some cannot be run.
"""

import contextlib
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pymongo
import pytest

from support.commands import CHECKOUT, COMMAND
from support.documentation import DRY_RUN, Block, blocks, started, why_not_run
from support.waiting import eventually

pytestmark = pytest.mark.acceptance

BLOCKS = [each for each in blocks() if not each.elsewhere]
UP, *_ = (command for block in BLOCKS for command in block.commands if "snapshots up" in command)
STARTED = [command for block in BLOCKS for command in block.commands if started(command) and command != UP]
_ID = "6a1b2c3d4e5f60718293a4b5"
_MADE = [command for block in BLOCKS for command in block.commands if command.split()[0] in DRY_RUN]


def runs(block: Block) -> list[str]:
    """The commands of a block that are run one after the other."""
    return [
        each
        for each in block.commands
        if not (started(each) or why_not_run(each) or each.split(maxsplit=1)[0] in DRY_RUN)
    ]


RUN = [block for block in BLOCKS if runs(block)]
FIRST = next(block for block in RUN if ". data/env" in block.text)
"""The second terminal of the README, which imports the samples."""


@dataclass(frozen=True)
class Terminals:
    """A directory like the checkout, where `snapshots up` runs, and its variables for a second terminal."""

    folder: Path
    variables: dict[str, str]
    first: subprocess.CompletedProcess[str]
    """README's commands in the second terminal."""
    database: Any

    def run(self, commands: list[str]) -> subprocess.CompletedProcess[str]:
        return _run(self.folder, [". data/env", *commands])


def _environment() -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SNAPSHOTS_")}
    return clean | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": "80"}


def _run(folder: Path, commands: list[str]) -> subprocess.CompletedProcess[str]:
    script = re.sub(r"(?<=[a-z] )ID\b", _ID, "\n".join(["set -e", *commands]))
    return subprocess.run(
        ["sh", "-c", script],
        env=_environment(),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture(scope="module")
def terminals(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminals]:
    folder = tmp_path_factory.mktemp("documentation")
    for path in CHECKOUT.iterdir():
        if path.name not in {"data", ".venv", ".git"}:
            (folder / path.name).symlink_to(path)
    (folder / ".venv").symlink_to(sys.prefix)
    printed = folder / "printed"
    outside = ":".join(each for each in os.environ["PATH"].split(":") if Path(each) != Path(sys.executable).parent)
    with printed.open("w") as output, _started(UP, folder, output, PATH=outside) as process:
        eventually(lambda: process.poll() is not None or "Ctrl-C stops everything" in printed.read_text(), 90)
        lines = [shlex.split(line)[1] for line in (folder / "data" / "env").read_text().splitlines()]
        variables = dict(line.split("=", maxsplit=1) for line in lines)
        with pymongo.MongoClient[Any](variables["SNAPSHOTS_MONGO_URL"]) as client:
            database = client[variables["SNAPSHOTS_MONGO_DATABASE"]]
            yield Terminals(folder, variables, _run(folder, runs(FIRST)), database)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(60) == 0


@contextlib.contextmanager
def _started(command: str, folder: Path, output: Any, **more: str) -> Iterator[subprocess.Popen[str]]:
    """Start a command in a session of its own, and kill whatever is left of it at the end."""
    script = f"exec {command}" if not re.match(r"[A-Z_]+=", command) else command
    with subprocess.Popen(
        ["sh", "-c", script.rstrip(" &")],
        env=_environment() | more,
        cwd=folder,
        stdout=output,
        stderr=output,
        stdin=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL if sys.exc_info()[0] else signal.SIGTERM)


def _skip_without_tools(commands: list[str]) -> None:
    for tool in ("curl", "redis-cli", "openssl"):
        if any(re.search(rf"\b{tool} ", each) for each in commands) and shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")


@pytest.mark.timeout(180)
def test_second_terminal_of_the_readme(terminals: Terminals) -> None:
    _skip_without_tools(runs(FIRST))
    ended = terminals.first
    assert ended.returncode == 0, ended.stderr
    for said in ("24 requests of organization", "completed 23, failed 1", '"success":true'):
        assert said in ended.stdout
    assert (
        terminals.database.contacts.find_one({"firstName": "Priya"})["_id"].binary.hex()
        == (terminals.variables["CONTACT_ID"])
    )


@pytest.mark.timeout(180)
@pytest.mark.parametrize("block", [each for each in RUN if each != FIRST], ids=lambda block: block.name)
def test_commands_of_a_block(terminals: Terminals, block: Block) -> None:
    commands = runs(block)
    _skip_without_tools(commands)
    ended = terminals.run(commands)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr
    if block.document == "docs/http.md" and "curl" in block.text:
        assert '"Training snapshot created successfully"' in ended.stdout


def test_datasets_opens_the_training_data_of_the_readme(terminals: Terminals) -> None:
    (block,) = (each for each in RUN if each.document == "README.md" and "exports verify training" in each.text)
    if not (terminals.folder / "training").exists():
        assert terminals.run(runs(block)).returncode == 0
    rows = [path.read_text().count("\n") for path in (terminals.folder / "training").glob("*.jsonl")]
    # One of the 24 conversations is empty, and one has no answer. Other examples may have made further snapshots.
    assert sum(rows) >= 22
    judge = Path(os.environ.get("JUDGES", CHECKOUT / ".venv-judges")) / "bin" / "python"
    if not judge.exists():
        pytest.skip(f"{judge} does not exist; `make judges` creates it")
    (call,) = re.findall(r"`datasets\.(load_dataset\(.+?\))`", (CHECKOUT / "README.md").read_text())
    code = f"from datasets import load_dataset; print(sum(map(len, {call}.values())))"
    env = _environment() | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(terminals.folder / "cache")}
    read = subprocess.run(
        [judge, "-c", code], cwd=terminals.folder, env=env, capture_output=True, text=True, timeout=110, check=False
    )
    assert read.stdout == f"{sum(rows)}\n", read.stderr


@pytest.mark.timeout(180)
def test_long_running_commands_become_ready(terminals: Terminals, tmp_path: Path) -> None:
    _skip_without_tools(STARTED)
    own = {
        "SNAPSHOTS_API_PORT": "0",
        "SNAPSHOTS_JWT_SECRET": "s" * 32,
        "FLOWER_BASIC_AUTH": "operator:long-enough",
        "FLOWER_PORT": str(_free_port()),
    }
    with contextlib.ExitStack() as stack:
        for number, command in enumerate(STARTED):
            output = stack.enter_context((tmp_path / str(number)).open("w"))
            here = command.replace("8000", str(_free_port()))
            stack.enter_context(_started(here, terminals.folder, output, **terminals.variables | own))

        def missing() -> list[str]:
            logs = [(tmp_path / str(number)).read_text() for number in range(len(STARTED))]
            return [each for each, log in zip(STARTED, logs, strict=True) if str(started(each)) not in log]

        eventually(lambda: not missing(), 90)


def test_celery_snippet_of_the_readme(terminals: Terminals) -> None:
    (block,) = (each for each in blocks() if (each.document, each.language) == ("README.md", "python"))
    argv = [sys.executable, "-c", block.text]
    subprocess.run(argv, env=_environment() | terminals.variables, cwd=terminals.folder, check=True, timeout=60)
    wanted = {"trigger": "task", "status": "completed", "tags": ["refund"]}
    eventually(lambda: terminals.database.snapshotrequests.count_documents(wanted) == 1, 60)


def test_commands_that_up_printed_are_those_of_the_readme(terminals: Terminals) -> None:
    printed = (terminals.folder / "printed").read_text()
    assert "Traceback" not in printed
    told = printed.split("In another terminal:\n")[1].replace(" \\\n", " ")
    commands = [line.strip() for line in told.splitlines() if line[:1] == " "]
    assert commands[0] == f". {(terminals.folder / 'data' / 'env').resolve()}"
    for command in commands[1:4]:
        assert command.startswith(".venv/bin/snapshots ")
    assert re.search(r"http://127\.0\.0\.1:\d+/operations/login/once\?code=\S{43}\n", printed)
    short = [line for line in printed.splitlines() if not re.search(r"http| \. /| import |^logs ", line)]
    assert max(len(line) for line in short) <= 80


@pytest.mark.timeout(180)
def test_demo() -> None:
    """`make demo`."""
    argv = [*COMMAND, "demo", "--json"]
    ended = subprocess.run(argv, env=_environment(), cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "starting worker1" in ended.stderr


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_targets_with_their_variables() -> None:
    for command in _MADE:
        argv = ["make", "-n", *shlex.split(command, comments=True)[1:]]
        ended = subprocess.run(argv, cwd=CHECKOUT, capture_output=True, text=True, timeout=30, check=False)
        assert ended.returncode == 0, ended.stderr


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
