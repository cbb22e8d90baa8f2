"""A shell that has read the `env` of a data folder can start the stack of that folder again."""

import json
import os
from pathlib import Path

import pytest

from worker.local.embedded import mongo_url, redis_url
from worker.local.shell_variables import forget_own_servers


def test_only_the_addresses_of_the_folder_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "servers").mkdir()
    (tmp_path / "servers" / "ports.json").write_text(json.dumps({"valkey": 20_001, "mongod": 20_002}))
    monkeypatch.setenv("SNAPSHOTS_REDIS_URL", redis_url(20_001))
    monkeypatch.setenv("SNAPSHOTS_MONGO_URL", mongo_url(20_003))
    forget_own_servers(tmp_path)
    assert "SNAPSHOTS_REDIS_URL" not in os.environ
    assert os.environ["SNAPSHOTS_MONGO_URL"] == mongo_url(20_003)
