"""What all measurements of one run share: the servers, the data in them, the addresses for child processes."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pymongo
import redis

from benchmarks.dataset import Document, seed
from benchmarks.options import Options
from worker.bootstrap import build
from worker.local.data_folder import data_folder
from worker.local.embedded import Options as ServerOptions
from worker.local.embedded import Servers, embedded
from worker.settings import PREFIX, Settings, load
from worker.stores import indexes
from worker.stores.connections import Connections
from worker.sweep.replay import MARKER_KEY, PULSE_KEY, Resending

DATABASE = "benchmarks"
SNAPSHOTS, OUTBOX = "bench_snapshots", "bench_outbox"
"""What the references write."""
CACHE_GB = 2.0


@dataclass(frozen=True)
class Session:
    """Servers that hold the data, and nothing of an earlier measurement after `clear`."""

    options: Options
    servers: Servers
    settings: Settings
    environment: dict[str, str]
    folder: Path
    mongo: "pymongo.MongoClient[Document]"
    redis: "redis.Redis"

    @property
    def database(self) -> "pymongo.database.Database[Document]":
        return self.mongo[DATABASE]

    def clear(self) -> None:
        """Leaves the data, and the indexes, and what the sweep remembers of Redis."""
        own = (self.settings.snapshots_collection, self.settings.requests_collection)
        for name in (*own, SNAPSHOTS, OUTBOX):
            self.database.drop_collection(name)
        for name in (SNAPSHOTS, OUTBOX):
            self.database.create_collection(name)
        self.database[SNAPSHOTS].create_index("requestId", unique=True)
        self._create_indexes()
        keys = [key for key in self.redis.scan_iter(count=1000) if key not in {MARKER_KEY.encode(), PULSE_KEY.encode()}]
        for first in range(0, len(keys), 1000):
            self.redis.unlink(*keys[first : first + 1000])
        for _ in range(2):  # no run pays for what the one before left in the cache
            self.mongo.admin.command("fsync")

    def _create_indexes(self) -> None:
        """Ours; the one by contact and time is what the references' reads need too."""
        connections = Connections(self.settings)
        try:
            indexes.ensure(connections)
        finally:
            connections.close()

    def prepare(self) -> None:
        """Stores the data, and lets the sweep's part meet this Redis, so that no sweep takes it for a new one."""
        seed(self.database, self.options.amounts.contacts, self.options.messages)
        self.clear()
        service = build(self.settings)
        try:
            Resending(service)()
        finally:
            service.connections.close()

    def versions(self) -> dict[str, Any]:
        """Of the servers."""
        told: Any = self.redis.info("server")
        version = told.get("valkey_version") or told["redis_version"]
        return {"mongod": self.mongo.server_info()["version"], "valkey": version}


@contextmanager
def session(options: Options) -> Iterator[Session]:
    """Embedded servers (MongoDB with 2 GB of cache, Redis with an AOF), and the data. Raises EmbeddedError."""
    with data_folder() as folder, embedded(options=ServerOptions(cache_gb=CACHE_GB)) as servers:
        environment = servers.environment() | {f"{PREFIX}MONGO_DATABASE": DATABASE}
        settings = load(redis_url=servers.redis_url, mongo_url=servers.mongo_url, mongo_database=DATABASE)
        with (
            pymongo.MongoClient[Document](servers.mongo_url, tz_aware=True) as mongo,
            redis.Redis.from_url(servers.redis_url) as broker,
        ):
            made = Session(options, servers, settings, environment, folder.path, mongo, broker)
            made.prepare()
            yield made
