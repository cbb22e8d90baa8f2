"""The API raises its limit on open files as far as the system allows."""

import resource
import sys

import pytest

from worker.api.server import raise_open_files


@pytest.mark.parametrize(
    ("platform", "hard", "highest"),
    [("linux", 524_288, 524_288), ("darwin", 2**63 - 1, 10_240), ("darwin", 1024, 1024)],
)
def test_limit_is_raised_to_what_the_system_accepts(
    platform: str, hard: int, highest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed: list[tuple[int, int]] = []
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: changed.append(limits))
    assert raise_open_files() == highest
    assert changed == [(highest, hard)]
