"""What commands print where a terminal or a device has limits: colours, encodings, a full disk."""

import os
import pty
import subprocess
from pathlib import Path

import pytest

from support.commands import CHECKOUT, COMMAND

# Both fail before they connect to a server.
INVALID = ["requests", "show", "6a1b2c3d4e5f60718293a4b5"]
PRINTING = """
import click
from worker.cli import main
main.get_command = lambda context, name: click.Command(name, callback=lambda: click.echo("→ ü 漢"))
main(["print"])
"""
UNREACHABLE = {"SNAPSHOTS_MONGO_URL": "no-url-…"}


def run_on_terminal(**more: str) -> str:
    """Returns what a command prints that fails on a terminal."""
    terminal, inner = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    argv = [*COMMAND, *INVALID]
    subprocess.run(argv, env=environment | UNREACHABLE | more, cwd=CHECKOUT, stderr=inner, timeout=60, check=False)
    os.close(inner)
    printed = os.read(terminal, 65536).decode()
    os.close(terminal)
    return printed


def test_error_is_red_on_a_terminal() -> None:
    assert "\x1b[31m" in run_on_terminal(TERM="xterm")


@pytest.mark.parametrize("more", [{"NO_COLOR": "1", "TERM": "xterm"}, {"TERM": "dumb"}], ids=["NO_COLOR", "dumb"])
def test_error_has_no_color_if_none_is_wanted(more: dict[str, str]) -> None:
    printed = run_on_terminal(**more)
    assert "Error: SNAPSHOTS_MONGO_URL" in printed
    assert "\x1b" not in printed


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_output_that_cannot_be_written_is_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [*COMMAND, "--help"], cwd=CHECKOUT, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False
        )
    assert ended.returncode == 1
    assert ended.stderr == "Error: The output cannot be written: No space left on device.\n"


def test_symbols_are_ascii_on_a_terminal_without_unicode_and_other_text_is_escaped() -> None:
    environment = os.environ | {"PYTHONIOENCODING": "latin-1"}
    ended = subprocess.run(
        [COMMAND[0], "-c", PRINTING], env=environment, cwd=CHECKOUT, capture_output=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stdout) == (0, b"-> \xfc \\u6f22\n")
