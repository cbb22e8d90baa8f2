"""`snapshots up`: its address and token survive kills and restarts, and it explains why a server cannot start."""

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
import pymongo
import pytest
from bson import ObjectId

from support.commands import CHECKOUT, COMMAND
from support.http import SNAPSHOTS, bearer
from support.waiting import eventually
from worker.local.data_folder import data_folder
from worker.local.login import login
from worker.settings import Settings, load


@contextlib.contextmanager
def up(data: Path, cwd: Path = CHECKOUT, **more: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("SNAPSHOTS_")} | more
    argv = [COMMAND[0], "-P", *COMMAND[1:], "up", "--json", "--data", str(data)]  # as the script in .venv/bin
    with (
        (data.parent / "stderr").open("w") as errors,
        subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=errors, env=env, cwd=cwd, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, "it ended before it was ready"
            yield process, json.loads(line)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)


def listed(ready: dict[str, Any]) -> int:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(ready["api"] + SNAPSHOTS, headers=bearer(ready["token"])).status_code
    return 0


@pytest.mark.acceptance
@pytest.mark.timeout(180)
def test_token_of_up_outlives_kills_and_restarts(tmp_path: Path) -> None:
    with up(tmp_path / "data") as (process, ready):
        assert listed(ready) == 200
        children = psutil.Process(process.pid).children()
        (api,) = (each for each in children if "--fd" in each.cmdline())
        api.kill()
        eventually(lambda: listed(ready) == 200, 60)
        contacts = f"{ready['api']}/api/training/contacts"
        unknown = httpx.delete(f"{contacts}/{'6a' * 12}", headers=bearer(ready["token"]))
        assert unknown.status_code == 404, unknown.text  # the keys for erasures are there
    kept = tmp_path / "data" / "access.json"
    for secret in (kept, tmp_path / "data" / "erasure.pem"):
        assert secret.stat().st_mode & 0o777 == 0o600
    variables = (tmp_path / "data" / "env").read_text()
    assert f"SNAPSHOTS_ERASURE_KEY={json.loads(kept.read_text())['erasure']}" in variables
    # The next start uses the same secret, so the earlier token is still valid.
    with data_folder(tmp_path / "data") as folder, login(load(), folder) as again:
        assert str(again.organization) == ready["organization"]
        claims = jwt.decode(ready["token"], again.environment["SNAPSHOTS_JWT_SECRET"], ["HS256"])
        assert claims["organizationId"] == ready["organization"]


@pytest.mark.acceptance
@pytest.mark.timeout(180)
def test_up_says_why_a_server_does_not_restart(tmp_path: Path) -> None:
    """A full disk can leave a damaged append-only file. Valkey then exits at once, and only its own output says why."""
    with up(tmp_path / "data") as (process, _):
        (valkey,) = (each for each in psutil.Process(process.pid).children() if each.name().startswith("valkey"))
        (file,) = (tmp_path / "data").rglob("*.incr.aof")
        with file.open("ab") as end:
            end.write(bytes(100))
        valkey.kill()
        eventually(lambda: "Bad file format" in (tmp_path / "stderr").read_text())
    assert "valkey exited (1); restarting in" in (tmp_path / "stderr").read_text()


@pytest.mark.acceptance
@pytest.mark.timeout(180)
def test_up_on_a_platforms_mongodb_starts_none_and_offers_no_sample_conversations(
    tmp_path: Path, settings: Settings
) -> None:
    env = os.environ | {"SNAPSHOTS_MONGO_URL": settings.mongo_url, "SNAPSHOTS_MONGO_DATABASE": settings.mongo_database}
    env.pop("SNAPSHOTS_REDIS_URL", None)
    ids = {"organizationId": ObjectId(), "contactId": ObjectId()}
    with pymongo.MongoClient[Any](settings.mongo_url) as client:
        client[settings.mongo_database].conversations.insert_one(ids)
    argv = [*COMMAND, "up", "--data", str(tmp_path / "data")]
    printed, errors = tmp_path / "printed", tmp_path / "errors"
    with (
        printed.open("w") as out,
        errors.open("w") as err,
        subprocess.Popen(argv, stdout=out, stderr=err, env=env) as up,
    ):
        try:
            eventually(lambda: up.poll() is not None or "Ctrl-C stops everything" in printed.read_text(), 90)
        finally:
            up.send_signal(signal.SIGINT)
    assert "starting Redis\n" in errors.read_text()
    assert "snapshots inspect" in printed.read_text()
    assert "import" not in printed.read_text()
    assert f"ORGANIZATION_ID={ids['organizationId']}\n" in (tmp_path / "data" / "env").read_text()


@pytest.mark.acceptance
@pytest.mark.timeout(180)
def test_up_runs_in_any_folder_and_with_any_proxy(tmp_path: Path) -> None:
    """For example in the folder of another Celery project, whose modules have the same names."""
    project = tmp_path / "project"
    project.mkdir()
    for name in ("worker", "tasks", "celeryconfig"):
        (project / f"{name}.py").write_text("raise RuntimeError('not ours')\n")
    proxies = {"http_proxy": "http://127.0.0.1:1", "HTTP_PROXY": "http://127.0.0.1:1"}
    with up(tmp_path / "data", project, **proxies) as (_, ready), httpx.Client(trust_env=False) as client:
        assert client.get(ready["api"] + SNAPSHOTS, headers=bearer(ready["token"])).status_code == 200


@pytest.mark.timeout(180)
def test_up_gives_the_secret_of_tokens_to_the_api_alone_and_its_folder_to_its_user_alone(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with up(folder, SNAPSHOTS_JWT_SECRET="s" * 32) as (process, ready):
        assert listed(ready) == 200
        children = psutil.Process(process.pid).children()
        assert len(children) >= 7
        having = [each.cmdline() for each in children if "SNAPSHOTS_JWT_SECRET" in each.environ()]
        assert ["--fd" in argv for argv in having] == [True]
        assert folder.stat().st_mode & 0o777 == 0o700
        assert not [path for path in folder.rglob("*") if path.lstat().st_mode & 0o077]
