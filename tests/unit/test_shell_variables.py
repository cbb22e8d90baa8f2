"""The file `env` of a local stack gives another terminal the same settings."""

import socket
import subprocess
from pathlib import Path

import pytest
from bson import ObjectId

from worker.local.login import Login
from worker.local.shell_variables import write_shell_variables
from worker.settings import load


def test_settings_of_the_environment_reach_another_terminal_except_for_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SNAPSHOTS_MESSAGE_SENDER_VALUES", "the customer=contact,agent=user")
    monkeypatch.setenv("SNAPSHOTS_MESSAGES_COLLECTION", "chat")
    monkeypatch.setenv("SNAPSHOTS_MONGO_DATABASE", "platform")
    monkeypatch.setenv("SNAPSHOTS_JWT_SECRET", "s3cret" * 6)
    with socket.socket() as listening:
        api = Login("http://127.0.0.1:8123", ObjectId(), "token", {}, listening)
        written = write_shell_variables(tmp_path, load(redis_url="redis://127.0.0.1:1/0"), api)
    argv = ["env", "-i", "sh", "-c", f". {written}; env"]
    shown = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines()
    assert "SNAPSHOTS_MESSAGE_SENDER_VALUES=the customer=contact,agent=user" in shown
    assert "SNAPSHOTS_MESSAGES_COLLECTION=chat" in shown
    assert "SNAPSHOTS_MONGO_DATABASE=platform" in shown
    assert "SNAPSHOTS_REDIS_URL=redis://127.0.0.1:1/0" in shown
    assert "SNAPSHOTS_API_PORT=8123" in shown
    assert not any("s3cret" in line for line in shown)
