"""`snapshots up`: an address and a token that work, also after a kill and a restart; what cannot start is explained."""

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import psutil
import pytest

from support.commands import CHECKOUT, COMMAND
from support.http import SNAPSHOTS, bearer
from support.waiting import eventually
from worker.local.data_folder import data_folder
from worker.local.login import access
from worker.settings import load


@contextlib.contextmanager
def up(data: Path, cwd: Path = CHECKOUT, **more: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("SNAPSHOTS_")} | more
    argv = [COMMAND[0], "-P", *COMMAND[1:], "up", "--json", "--data", str(data)]  # as the script in .venv/bin
    with (
        (data.parent / "stderr").open("w") as said,
        subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=said, env=env, cwd=cwd, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, "it ended before it was ready"
            yield process, json.loads(line)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)


def listed(said: dict[str, Any]) -> int:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(said["api"] + SNAPSHOTS, headers=bearer(said["token"])).status_code
    return 0


@pytest.mark.timeout(180)
def test_up_serves_http_with_a_token_that_outlives_kills_and_restarts(tmp_path: Path) -> None:
    with up(tmp_path / "data") as (process, said):
        assert listed(said) == 200
        children = psutil.Process(process.pid).children()
        (api,) = (each for each in children if "--fd" in each.cmdline())
        api.kill()
        eventually(lambda: listed(said) == 200, 60)
    kept = tmp_path / "data" / "access.json"
    assert kept.stat().st_mode & 0o777 == 0o600
    # What the next start has: the same secret, so that the token of before is valid.
    with data_folder(tmp_path / "data") as folder, access(load(), folder) as again:
        assert str(again.organization) == said["organization"]
        claims = jwt.decode(said["token"], again.environment["SNAPSHOTS_JWT_SECRET"], ["HS256"])
        assert claims["organizationId"] == said["organization"]


@pytest.mark.timeout(180)
def test_up_says_why_a_server_does_not_start_again(tmp_path: Path) -> None:
    """An append-only file with a hole in it, as a full disk left one: Valkey ends at once, and says so only itself."""
    with up(tmp_path / "data") as (process, _):
        (valkey,) = (each for each in psutil.Process(process.pid).children() if each.name().startswith("valkey"))
        (file,) = (tmp_path / "data").rglob("*.incr.aof")
        with file.open("ab") as end:
            end.write(bytes(100))
        valkey.kill()
        eventually(lambda: "Bad file format" in (tmp_path / "stderr").read_text())
    assert "valkey ended (1); started again in" in (tmp_path / "stderr").read_text()


@pytest.mark.timeout(180)
def test_up_runs_wherever_it_is_called_and_whatever_proxy_there_is(tmp_path: Path) -> None:
    """In the folder of another Celery project, say, whose modules have the names of ours."""
    project = tmp_path / "project"
    project.mkdir()
    for name in ("worker", "tasks", "celeryconfig"):
        (project / f"{name}.py").write_text("raise RuntimeError('not ours')\n")
    proxies = {"http_proxy": "http://127.0.0.1:1", "HTTP_PROXY": "http://127.0.0.1:1"}
    with up(tmp_path / "data", project, **proxies) as (_, said), httpx.Client(trust_env=False) as client:
        assert client.get(said["api"] + SNAPSHOTS, headers=bearer(said["token"])).status_code == 200
