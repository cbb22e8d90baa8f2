"""What commands print where a terminal or a device has limits: colours, encodings, a full disk."""

import os
import pty
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from support.commands import CHECKOUT, COMMAND

# All fail before they connect to a server.
INVALID = ["requests", "show", "6a1b2c3d4e5f60718293a4b5"]
MISUSED = {
    "unknown command": (["statsu"], "Did you mean"),
    "unknown option": (["--wrong"], "--wrong"),
    "unknown option of a command": (["status", "--wrong"], "--wrong"),
    "wrong value": (["request", "--organization", "7", "--contact", "8"], "--organization"),
}
PRINTING = """
import click
from worker.cli import main
main.get_command = lambda context, name: click.Command(name, callback=lambda: click.echo("→ ü 漢"))
main(["print"])
"""
UNREACHABLE = {"SNAPSHOTS_MONGO_URL": "no-url-…"}


def run_on_terminal(arguments: Sequence[str] = INVALID, **more: str) -> str:
    """Return what a command prints that fails on a terminal of 80 columns."""
    terminal, inner = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    argv = [*COMMAND, *arguments]
    subprocess.run(
        argv,
        env=environment | UNREACHABLE | {"COLUMNS": "80"} | more,
        cwd=CHECKOUT,
        stderr=inner,
        timeout=60,
        check=False,
    )
    os.close(inner)
    printed = os.read(terminal, 65536).decode()
    os.close(terminal)
    return printed


def test_error_is_red_on_a_terminal() -> None:
    assert "\x1b[31m" in run_on_terminal(TERM="xterm")


@pytest.mark.parametrize(("arguments", "named"), MISUSED.values(), ids=MISUSED)
def test_usage_error_is_red_as_well_and_below_the_usage(arguments: list[str], named: str) -> None:
    usage, red, error = run_on_terminal(arguments, TERM="xterm").partition("\x1b[31m")
    assert usage.startswith("Usage: ")
    assert red
    assert error.startswith("Error: ")
    assert named in error


def test_lines_break_between_words_on_a_terminal() -> None:
    lines = run_on_terminal(TERM="xterm", NO_COLOR="1").splitlines()
    assert max(map(len, lines)) <= 80
    assert "should be a URL that begins with mongodb:// or mongodb+srv://, has a host" in " ".join(lines)


@pytest.mark.parametrize("arguments", [INVALID, ["status", "--wrong"], ["--wrong"]])
@pytest.mark.parametrize("more", [{"NO_COLOR": "1", "TERM": "xterm"}, {"TERM": "dumb"}], ids=["NO_COLOR", "dumb"])
def test_error_has_no_color_if_none_is_wanted(more: dict[str, str], arguments: list[str]) -> None:
    printed = run_on_terminal(arguments, **more)
    assert "Error: " in printed
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
