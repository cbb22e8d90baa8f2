"""A FLOWER_* variable that Flower cannot use is named before Flower reads it."""

from pathlib import Path

import pytest

from worker.errors import InvalidSettings
from worker.flower.login import port_error
from worker.flower.variables import require_valid

WRONG = [
    ("PORT", "abc", "should be a whole number"),
    ("PORT", "70000", "should be from 0 to 65535"),
    ("MAX_TASKS", "many", "should be a whole number"),
    ("INSPECT_TIMEOUT", "soon", "should be a number"),
    ("DEBUG", "ja", "should be true or false"),
    ("LOGGING", "LOUD", "should be one of debug, info, warning, error, none"),
    ("TASK_RUNTIME_METRIC_BUCKETS", "1,many", "should be a number"),
    ("FORMAT_TASK", "x", "can be set only in a file that --conf names"),
    ("UNIX_SOCKET", "/nowhere/socket", "cannot be written: create the folder /nowhere"),
]


@pytest.mark.parametrize(("name", "value", "said"), WRONG, ids=[f"{name}={value}" for name, value, _ in WRONG])
def test_wrong_value_is_named(name: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"FLOWER_{name}", value)
    with pytest.raises(InvalidSettings, match=f"^FLOWER_{name}: .*{said}"):
        require_valid()


def test_right_and_unknown_variables_are_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = {"PORT": "0", "DEBUG": "yes", "LOGGING": "warning", "UNIX_SOCKET": str(tmp_path / "s"), "NO_SUCH": "x"}
    for name, value in right.items():
        monkeypatch.setenv(f"FLOWER_{name}", value)
    require_valid()


def test_port_that_does_not_exist_is_named() -> None:
    assert "cannot listen on 127.0.0.1:70000: a port is from 0 to 65535" in (port_error("127.0.0.1", 70_000) or "")
