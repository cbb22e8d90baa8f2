"""Tables of the commands: readable at any width."""

import pytest

from worker.cli.tables import print_table

ORGANIZATION = "6a1b2c3d4e5f60718293a4b5"
NUMBERS = ("accepted", "completed", "failed", "in flight", "deleted", "unchanged", "snapshots")
COLUMNS = ("organization", *NUMBERS, "holds")
ROW = (ORGANIZATION, "6,012,345", "6,012,000", "345", "0", "0", "12", "5,999,988", "yes")


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    return monkeypatch


@pytest.mark.parametrize("width", [40, 80])
def test_narrow_terminal_shows_every_value_in_full(
    terminal: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int
) -> None:
    terminal.setenv("COLUMNS", str(width))
    print_table(COLUMNS, [ROW, ROW], "", NUMBERS)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    text = " ".join(line.strip() for line in lines)
    fields = ", ".join(f"{name} {value}" for name, value in zip(COLUMNS[1:], ROW[1:], strict=True))
    assert text == f"{ORGANIZATION} {fields} {ORGANIZATION} {fields}"


def test_wide_terminal_shows_a_table(terminal: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    terminal.setenv("COLUMNS", "120")
    print_table(COLUMNS, [ROW], "", NUMBERS)
    assert [line for line in capsys.readouterr().out.splitlines() if all(value in line for value in ROW)]


def test_long_value_is_not_broken(terminal: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    terminal.setenv("COLUMNS", "80")
    print_table(("id", "request id", "code"), [(ORGANIZATION, "r" * 200, "")], "")
    assert capsys.readouterr().out == f"{ORGANIZATION}\n  request id {'r' * 200}\n"


def test_no_rows_are_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("id", "request id"), [], "There are no such requests.")
    assert capsys.readouterr().out == "There are no such requests.\n"
