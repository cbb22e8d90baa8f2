"""Real servers for the tests: one embedded pair for each pytest-xdist process, and a database for each test.

If SNAPSHOTS_MONGO_URL or SNAPSHOTS_REDIS_URL names a server, the tests use that one. They flush its Redis databases
8 to 15 (one for each pytest-xdist process), never the one that the URL names. Other settings in the environment are
removed.

All temporary files are in one folder, which is removed at the end; the next run removes that of a run that was killed.
"""

import os
import secrets
import signal
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

import pymongo
import pytest
import redis

from worker.local.data_folder import data_folder
from worker.local.embedded import Options, Servers
from worker.local.embedded import servers as start_servers
from worker.settings import PREFIX, Settings, load

SERVERS = (f"{PREFIX}MONGO_URL", f"{PREFIX}REDIS_URL")
# Fail points let a test make mongod fail deliberately (https://www.mongodb.com/docs/manual/reference/parameters/).
OPTIONS = Options(
    cache_gb=0.5, mongod=("--setParameter", "enableTestCommands=1"), valkey=("--enable-debug-command", "local")
)


def pytest_configure(config: pytest.Config) -> None:
    # A shell starts background jobs with SIGINT ignored, and nohup starts a command with SIGHUP ignored. Children
    # inherit that, and some tests send these signals to theirs.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    for name in [each for each in os.environ if each.startswith(PREFIX)]:
        if name not in SERVERS:
            del os.environ[name]
    if not hasattr(config, "workerinput"):  # pytest-xdist's processes inherit the variable
        stack = ExitStack()
        os.environ["TMPDIR"] = str(stack.enter_context(data_folder()).path)
        tempfile.tempdir = None
        config.add_cleanup(stack.close)


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """MongoDB and Redis. `servers.mongod` or `servers.valkey` is None if the environment names that server."""
    with start_servers(load(), options=OPTIONS) as started:
        yield started


@pytest.fixture(scope="session")
def mongo_client(servers: Servers) -> Iterator[pymongo.MongoClient[Any]]:
    with pymongo.MongoClient[Any](servers.mongo_url, tz_aware=True) as client:
        yield client


@pytest.fixture
def database(mongo_client: pymongo.MongoClient[Any]) -> Iterator[str]:
    """The name of an empty database, which is dropped after the test."""
    name = f"test_{secrets.token_hex(6)}"
    yield name
    mongo_client.drop_database(name)


@pytest.fixture
def redis_url(servers: Servers) -> Iterator[str]:
    """The URL of an empty Redis database of this pytest-xdist process. INFO and pub/sub concern the whole server."""
    url = servers.redis_url
    if servers.valkey is None:
        worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
        url = urlsplit(url)._replace(path=f"/{8 + worker % 8}").geturl()
    with redis.Redis.from_url(url) as client:
        client.flushdb()
        yield url
        client.flushdb()


@pytest.fixture
def changeable_redis(servers: Servers) -> None:
    """Skips tests that change the server's configuration unless the tests started the server."""
    if servers.valkey is None:
        pytest.skip("this Redis server was not started by the tests")


@pytest.fixture
def settings(servers: Servers, database: str, redis_url: str) -> Settings:
    """The default settings, with the servers and the database of this test."""
    return load(redis_url=redis_url, mongo_url=servers.mongo_url, mongo_database=database)
