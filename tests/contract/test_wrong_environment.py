"""A wrong server is named at start: which variable, which address, why, and whether waiting may help."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pymongo
import pytest

from support.faults import failing
from support.mongo_server import own_mongod
from support.programs import Order, run_programs
from support.redis_server import free_port, own_redis, redis_server, valkey_server
from support.waiting import allowed, eventually
from worker.errors import BrokerUnavailable, SnapshotError, StoreUnavailable, UnusableServer
from worker.intake.stream import IntakeStream
from worker.settings import Settings
from worker.startup import mongo_check, redis_check
from worker.stores.connections import Connections

SAMPLES = Path(__file__).parents[2] / "worker" / "local" / "samples" / "conversations.jsonl"


class _Web(BaseHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    """The ports of a mongod without a replica set, of one whose set is not initiated, and of a web server."""
    with ExitStack() as stack:
        found = {
            name: stack.enter_context(own_mongod(Path(tmp_path_factory.mktemp(name)), *options))
            for name, options in (("standalone", ()), ("uninitiated", ("--replSet", "rs0")))
        }
        web = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), _Web))
        stack.callback(web.shutdown)
        Thread(target=web.serve_forever).start()
        yield {**found, "web": web.server_port}


MONGO: list[tuple[str, str, type[SnapshotError], str]] = [
    ("standalone", "/?replicaSet=rs0", UnusableServer, "is not a replica set, so it has no transactions"),
    ("standalone", "/", UnusableServer, "run rs.initiate()"),
    ("uninitiated", "/?replicaSet=rs0", StoreUnavailable, "has a replica set that is not initiated"),
    ("shared", "/?replicaSet=other", UnusableServer, "belongs to the replica set rs0: set replicaSet=rs0"),
    ("shared", "/?replicaSet=rs0&tls=true", UnusableServer, "TLS: "),
    ("redis", "/?replicaSet=rs0", StoreUnavailable, "cannot be reached"),
    ("nobody", "/?replicaSet=rs0", StoreUnavailable, "connection refused"),
    ("web", "/?replicaSet=rs0", StoreUnavailable, "is not a MongoDB server"),
]


@pytest.mark.parametrize(("server", "rest", "kind", "text"), MONGO)
def test_wrong_mongo_is_named_with_variable_address_and_reason(
    server: str, rest: str, kind: type[SnapshotError], text: str, ports: dict[str, int], settings: Settings
) -> None:
    shared = int(settings.mongo_url.split(":")[2].split("/")[0])
    port = {**ports, "shared": shared, "redis": settings.redis.port, "nobody": 1}[server]
    own = settings.model_copy(update={"mongo_url": f"mongodb://127.0.0.1:{port}{rest}"})
    began = time.monotonic()
    with closing(Connections(own)) as connections, pytest.raises(SnapshotError) as error:
        mongo_check.check(connections)
    assert type(error.value) is kind
    assert text in error.value.message
    assert f"127.0.0.1:{port}" in error.value.message
    assert "SNAPSHOTS_MONGO_URL" in error.value.message
    assert time.monotonic() - began < allowed(5)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("mongodb://someone:hunter2@nowhere.invalid/?replicaSet=rs0", "nowhere.invalid:27017: unknown host"),
        ("mongodb+srv://someone:hunter2@nowhere.invalid/", "nowhere.invalid"),
    ],
)
def test_unknown_name_of_mongo_is_an_outage(url: str, text: str, settings: Settings) -> None:
    own = settings.model_copy(update={"mongo_url": url})
    with closing(Connections(own)) as connections, pytest.raises(StoreUnavailable) as error:
        mongo_check.check(connections)
    assert "hunter2" not in error.value.message
    assert text in error.value.message or "DNS does not answer" in error.value.message


@pytest.mark.parametrize(("host", "attempts"), [("web", 1), ("nowhere.invalid", 1), ("nobody", 2)])
def test_mongo_that_cannot_come_is_not_waited_for(
    host: str, attempts: int, ports: dict[str, int], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[float] = []
    check_within = mongo_check._check_within

    def counted(seconds: float, connections: Connections) -> None:
        made.append(seconds)
        check_within(1.0, connections)  # as on a machine that has nothing else to do

    monkeypatch.setattr(mongo_check, "_check_within", counted)
    port = {**ports, "nobody": 1}.get(host)
    own = settings.model_copy(update={"mongo_url": f"mongodb://{f'127.0.0.1:{port}' if port else host}/"})
    with closing(Connections(own)) as connections, pytest.raises(StoreUnavailable) as error:
        mongo_check.check(connections)
    assert len(made) == attempts or "DNS does not answer" in error.value.message


@pytest.mark.parametrize("options", ["", "&minPoolSize=10&maxPoolSize=50"])
def test_mongo_that_can_be_used_passes(settings: Settings, options: str) -> None:
    own = settings.model_copy(update={"mongo_url": settings.mongo_url + options})
    with closing(Connections(own)) as connections:
        mongo_check.check(connections)


def test_direct_connection_to_a_member_that_is_not_the_primary_is_named(settings: Settings, tmp_path: Path) -> None:
    with own_mongod(tmp_path, "--replSet", "rs0") as port:
        url = f"mongodb://127.0.0.1:{port}/?directConnection=true"
        with pymongo.MongoClient[Any](url) as client:
            member = {"_id": 0, "host": f"127.0.0.1:{port}"}
            client.admin.command("replSetInitiate", {"_id": "rs0", "members": [member]})
            eventually(lambda: client.admin.command("hello")["isWritablePrimary"])
            client.admin.command("replSetStepDown", 600, force=True)
        own = settings.model_copy(update={"mongo_url": url})
        with closing(Connections(own)) as connections, pytest.raises(StoreUnavailable) as error:
            mongo_check.check(connections)
    assert f"127.0.0.1:{port} is not the primary, and directConnection=true" in error.value.message


def test_database_that_differs_from_another_in_case_only_is_named(
    settings: Settings, mongo_client: pymongo.MongoClient[Any]
) -> None:
    mongo_client[settings.mongo_database].create_collection("any")
    own = settings.model_copy(update={"mongo_database": settings.mongo_database.upper()})
    with closing(Connections(own)) as connections, pytest.raises(UnusableServer) as error:
        mongo_check.check(connections)
    assert f"has the database {settings.mongo_database}, which differs from" in error.value.message


def test_ledger_that_is_another_programs_collection_is_named(
    settings: Settings, mongo_client: pymongo.MongoClient[Any]
) -> None:
    mongo_client[settings.mongo_database].orders.insert_one({"total": 3})
    own = settings.model_copy(update={"requests_collection": "orders"})
    with closing(Connections(own)) as connections, pytest.raises(UnusableServer) as error:
        mongo_check.check(connections)
    assert "another program in the collection orders" in error.value.message


def test_mongo_that_answers_late_passes(settings: Settings, mongo_client: pymongo.MongoClient[Any]) -> None:
    """The command itself waits for it as long as it may."""
    late = failing(mongo_client, ["find"], blockConnection=True, blockTimeMS=2500)
    with late, closing(Connections(settings)) as connections:
        mongo_check.check(connections)


# --- Redis ----------------------------------------------------------------------------------------------

REDIS: list[tuple[tuple[str, ...], str, type[SnapshotError], str]] = [
    ((), "redis://:wrong@{}/0", UnusableServer, "WRONGPASS"),
    ((), "redis://{}/0", UnusableServer, "NOAUTH"),
    (("--cluster-enabled", "yes"), "redis://{}/0", UnusableServer, "Redis Cluster"),
    (("--replicaof", "127.0.0.1 1"), "redis://{}/0", BrokerUnavailable, "is a replica"),
    (("--databases", "4"), "redis://{}/9", UnusableServer, "no database with this number"),
    ((), "rediss://{}/0", BrokerUnavailable, "TLS"),
    (("--maxmemory", "100kb"), "redis://{}/0", BrokerUnavailable, "is full"),
    (("--maxmemory", "100kb", "--maxmemory-policy", "volatile-lru"), "redis://{}/0", BrokerUnavailable, "(OOM)"),
    (("--min-replicas-to-write", "1"), "redis://{}/0", BrokerUnavailable, "fewer replicas than min-replicas-to-write"),
]


@pytest.mark.parametrize(("options", "url", "kind", "text"), REDIS)
def test_wrong_redis_is_named_with_variable_address_and_reason(
    options: tuple[str, ...], url: str, kind: type[SnapshotError], text: str, settings: Settings, tmp_path: Path
) -> None:
    if "--cluster-enabled" in options:
        options = (*options, "--cluster-port", str(free_port()))
    with own_redis(valkey_server(), tmp_path, *options) as client:
        server: Any = client
        if text in {"WRONGPASS", "NOAUTH"}:
            server.config_set("requirepass", "right")  # later, because the helper waits without a password
        address = f"127.0.0.1:{client.connection_pool.connection_kwargs['port']}"
        with pytest.raises(SnapshotError) as error:
            redis_check.check(settings.model_copy(update={"redis_url": url.format(address)}), permissions=True)
    assert type(error.value) is kind
    assert text in error.value.message
    assert address in error.value.message
    assert "SNAPSHOTS_REDIS_URL" in error.value.message
    assert ":wrong@" not in error.value.message


def test_redis_that_may_lose_data_is_usable_and_says_so(settings: Settings, tmp_path: Path) -> None:
    with own_redis(valkey_server(), tmp_path, "--maxmemory-policy", "allkeys-lru") as client:
        port = client.connection_pool.connection_kwargs["port"]
        lossy, evicting = redis_check.check(settings.model_copy(update={"redis_url": f"redis://127.0.0.1:{port}/0"}))
    assert "appendonly is no" in lossy
    assert "maxmemory-policy is allkeys-lru" in evicting


@pytest.mark.parametrize("binary", [valkey_server, redis_server])
def test_listener_without_work_shows_that_it_is_alive(
    binary: Callable[[], str | None], settings: Settings, tmp_path: Path
) -> None:
    """Redis 7.0, of Debian 12, counts a consumer as idle while it waits for an entry in vain."""
    path = binary()
    if path is None:
        pytest.skip("no redis-server is installed")
    with own_redis(path, tmp_path) as client:
        port = client.connection_pool.connection_kwargs["port"]
        own = settings.model_copy(update={"redis_url": f"redis://127.0.0.1:{port}/0"})
        assert any("appendonly is no" in risk for risk in redis_check.check(own))
        with closing(Connections(own)) as connections:
            stream, server = IntakeStream(connections, "me"), connections.redis
            stream.show_alive()  # creates the group
            stream.show_alive()
            time.sleep(0.5)
            before: Any = server.xinfo_consumers(own.requests_stream, own.consumer_group)
            stream.wait_for_entry(timedelta(milliseconds=10))
            stream.show_alive()
            after: Any = server.xinfo_consumers(own.requests_stream, own.consumer_group)
    assert before[0]["idle"] >= 400
    assert after[0]["idle"] < before[0]["idle"]


# --- processes ------------------------------------------------------------------------------------------

PROGRAMS = {
    "status": ("snapshots", ["status", "--json"]),
    "doctor": ("snapshots", ["doctor", "--no-request", "--json"]),
    "import": ("snapshots", ["import", str(SAMPLES)]),
    "request": ("snapshots", ["request", "--organization", "6a" * 12, "--contact", "6a" * 12]),
    "up": ("snapshots", ["up"]),
    "api": ("snapshots", ["api", "--port", "0"]),
    "listener": ("snapshots", ["listen"]),
    "worker": ("celery", ["-A", "worker", "worker", "-P", "solo", "-c", "1"]),
    "beat": ("celery", ["-A", "worker", "beat"]),
    "flower": ("celery", ["-A", "worker", "flower", "--port=0"]),
}


@pytest.mark.timeout(200)
def test_every_process_refuses_a_mongo_without_a_replica_set(
    ports: dict[str, int], settings: Settings, tmp_path: Path
) -> None:
    environment = {
        "SNAPSHOTS_MONGO_URL": f"mongodb://127.0.0.1:{ports['standalone']}/?replicaSet=rs0",
        "SNAPSHOTS_REDIS_URL": settings.redis_url,
        "SNAPSHOTS_MONGO_URI": "unknown",
        "SNAPSHOTS_JWT_SECRET": "x" * 40,
        "FLOWER_BASIC_AUTH": "operator:long-enough",
    }
    schedule = ["-s", str(tmp_path / "schedule")]
    orders = [
        Order(name, [*arguments, *(schedule if program == "beat" else [])], environment)
        for program, (name, arguments) in PROGRAMS.items()
    ]
    for name, ended in zip(PROGRAMS, run_programs(orders), strict=True):
        assert ended.code in (1, 2), (name, ended.output)
        assert "is not a replica set, so it has no transactions" in ended.output, (name, ended.output)
        assert "Traceback" not in ended.output, (name, ended.output)
        assert "SNAPSHOTS_MONGO_URL" in ended.output.split("SNAPSHOTS_MONGO_URI", 1)[1], (name, ended.output)
        if name == "status":
            line = next(each for each in ended.output.splitlines() if each.startswith("{"))
            assert json.loads(line)["error"]["code"] == "unusable_server"


def test_wrong_key_file_is_named_by_every_process_that_needs_it(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text("no key")
    servers = {"SNAPSHOTS_MONGO_URL": settings.mongo_url, "SNAPSHOTS_REDIS_URL": settings.redis_url}
    signing = {**servers, "SNAPSHOTS_JWT_SECRET": "x" * 40, "SNAPSHOTS_ERASURE_SIGNING_KEY": str(tmp_path / "key.pem")}
    verifying = {**servers, "SNAPSHOTS_JWT_PUBLIC_KEY": str(tmp_path / "key.pem")}
    expected = {
        ("worker", "SNAPSHOTS_ERASURE_SIGNING_KEY"): signing,
        ("api", "SNAPSHOTS_ERASURE_SIGNING_KEY"): signing,
        ("api", "SNAPSHOTS_JWT_PUBLIC_KEY"): verifying,
        ("up", "SNAPSHOTS_JWT_PUBLIC_KEY"): verifying,
        ("up", "FLOWER_BASIC_AUTH"): {**servers, "FLOWER_BASIC_AUTH": "operator:short"},
    }
    orders = [Order(*PROGRAMS[name], environment) for (name, _), environment in expected.items()]
    for (name, variable), ended in zip(expected, run_programs(orders), strict=True):
        assert (ended.code, "Traceback" in ended.output) == (2, False), (name, ended.output)
        assert f"Error: {variable}" in ended.output, (name, ended.output)
