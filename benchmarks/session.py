"""What all measurements of a run share: the servers, their data, and the addresses for child processes."""

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
from worker.stores.key_types import MARKER_KEY
from worker.sweep.redis_state import PULSE_KEY
from worker.sweep.replay import Replay

DATABASE = "benchmarks"
SNAPSHOTS, OUTBOX = "bench_snapshots", "bench_outbox"
"""Collections that the references write."""
CACHE_GB = 2.0


@dataclass(frozen=True)
class Session:
    """Servers with the data; after `clear`, without anything from earlier measurements."""

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
        """Remove everything but the data, the indexes, and what the sweep remembers about Redis."""
        names = self.settings
        own = (names.snapshots_collection, names.requests_collection, names.outbox_collection, names.counts_collection)
        for name in (*own, SNAPSHOTS, OUTBOX):
            self.database.drop_collection(name)
        for name in (SNAPSHOTS, OUTBOX):
            self.database.create_collection(name)
        self.database[SNAPSHOTS].create_index("requestId", unique=True)
        self._create_indexes()
        keys = [key for key in self.redis.scan_iter(count=1000) if key not in {MARKER_KEY.encode(), PULSE_KEY.encode()}]
        for first in range(0, len(keys), 1000):
            self.redis.unlink(*keys[first : first + 1000])
        for _ in range(2):  # so that no run pays for the previous one's dirty cache
            self.mongo.admin.command("fsync")

    def _create_indexes(self) -> None:
        """Create our indexes; the references need the one by contact and time as well."""
        connections = Connections(self.settings)
        try:
            indexes.ensure(connections)
        finally:
            connections.close()

    def prepare(self) -> None:
        """Store the data and run the replay once, so that no later sweep takes this Redis for a new one."""
        seed(self.database, self.options.amounts.contacts, self.options.messages)
        self.clear()
        service = build(self.settings)
        try:
            Replay(service)()
        finally:
            service.connections.close()

    def versions(self) -> dict[str, Any]:
        """Return the versions of the servers."""
        server_info: Any = self.redis.info("server")
        version = server_info.get("valkey_version") or server_info["redis_version"]
        return {"mongod": self.mongo.server_info()["version"], "valkey": version}


@contextmanager
def session(options: Options) -> Iterator[Session]:
    """Start embedded servers (MongoDB with 2 GB of cache, Redis with an AOF) with the data. Raises EmbeddedError."""
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
