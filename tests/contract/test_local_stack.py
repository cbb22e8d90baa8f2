"""What `snapshots up` does before it starts a process."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from worker.cli.stack import up
from worker.errors import InvalidSettings
from worker.local.stack import processes, stack
from worker.settings import load


@pytest.mark.parametrize(
    ("given", "used"), [("ERROR", "INFO"), ("WARNING", "INFO"), ("INFO", "INFO"), ("DEBUG", "DEBUG")]
)
def test_processes_log_that_they_are_ready_whatever_the_level_of_logs(
    given: str, used: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SNAPSHOTS_LOG_LEVEL", given)
    assert {child.env["SNAPSHOTS_LOG_LEVEL"] for child in processes(tmp_path, {})} == {used}


def test_empty_name_of_a_data_folder_is_refused() -> None:
    ended = CliRunner().invoke(up, ["--data", ""])
    assert ended.exit_code == 2
    assert "Invalid value for --data: should name a directory." in ended.output


def test_damaged_key_in_the_data_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SNAPSHOTS_MONGO_URL", "SNAPSHOTS_REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    key = tmp_path / "erasure.pem"
    key.touch()
    with pytest.raises(InvalidSettings, match=f"SNAPSHOTS_ERASURE_SIGNING_KEY: {key}"), stack(load(), tmp_path):
        pass
