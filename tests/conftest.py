"""Real servers for the tests: one embedded pair for each pytest-xdist process, a database for each test.

Where SNAPSHOTS_MONGO_URL or SNAPSHOTS_REDIS_URL names a server, that is used instead. On such a Redis the
databases 8 to 15 are flushed (one for each pytest-xdist process), never the one that the URL names.
"""

import os
import secrets
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pymongo
import pytest
import redis

from worker.local.embedded import Options, Servers
from worker.local.embedded import servers as start_servers
from worker.settings import Settings, load

# Fail points let a test make mongod fail on purpose (https://www.mongodb.com/docs/manual/reference/parameters/).
OPTIONS = Options(
    cache_gb=0.5, mongod=("--setParameter", "enableTestCommands=1"), valkey=("--enable-debug-command", "local")
)


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """MongoDB and Redis. `servers.mongod` and `servers.valkey` are None where the environment names one."""
    with start_servers(load(), options=OPTIONS) as started:
        yield started


@pytest.fixture(scope="session")
def mongo_client(servers: Servers) -> Iterator[pymongo.MongoClient[Any]]:
    with pymongo.MongoClient[Any](servers.mongo_url, tz_aware=True) as client:
        yield client


@pytest.fixture
def database(mongo_client: pymongo.MongoClient[Any]) -> Iterator[str]:
    """The name of an empty database that is dropped afterwards."""
    name = f"test_{secrets.token_hex(6)}"
    yield name
    mongo_client.drop_database(name)


@pytest.fixture
def redis_url(servers: Servers) -> Iterator[str]:
    """An empty Redis database of this pytest-xdist process. INFO and pub/sub are the whole server's."""
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
    """For tests that change the configuration of the whole server: only where it is ours."""
    if servers.valkey is None:
        pytest.skip("the Redis is not ours to change")


@pytest.fixture
def settings(servers: Servers, database: str, redis_url: str) -> Settings:
    """The settings of this test: its servers, its database, else what is taken otherwise."""
    return load(redis_url=redis_url, mongo_url=servers.mongo_url, mongo_database=database)
