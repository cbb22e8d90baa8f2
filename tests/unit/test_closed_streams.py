"""Commands whose standard streams the shell has closed (`>&-`), for which Python has None."""

import sys

import pytest

from worker.cli.lines import echo
from worker.cli.shared import agrees, print_json


def test_closed_standard_output_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    echo("text")
    print_json({"a": "ü"})


def test_closed_standard_error_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    echo("text", err=True)


def test_nothing_is_asked_if_standard_input_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert agrees("Really?", False)
