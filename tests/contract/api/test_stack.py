"""`snapshots up` serves HTTP: an address and a token that work, also after the API was killed and after a restart."""

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
from worker.access import access
from worker.data_folder import data_folder
from worker.settings import load


@contextlib.contextmanager
def up(data: Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("SNAPSHOTS_")}
    argv = [*COMMAND, "up", "--json", "--data", str(data)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, env=env, cwd=CHECKOUT, text=True) as process:
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
