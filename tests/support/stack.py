"""Workers and beat as real processes, on the servers of a test."""

import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import redis
from bson import ObjectId
from celery import Celery
from pymongo.database import Database

from support.ledger import Bench, bench_on
from support.waiting import eventually
from worker.celery_support.publisher import CeleryPublisher
from worker.domain.ledger_entry import LedgerEntry
from worker.local.processes import Child
from worker.settings import PREFIX, Settings

QUEUES = "snapshots,snapshots.bulk,snapshots.maintenance,snapshots.exports"


@dataclass
class Running:
    """What runs, and how a test looks at it from outside."""

    settings: Settings
    bench: Bench
    worker: Child
    beat: Child
    app: Celery
    """A plain Celery app, as a foreign producer has it: nothing but the broker's address."""

    @property
    def database(self) -> Database[dict[str, Any]]:
        return self.bench.connections.database

    @property
    def redis(self) -> "redis.Redis":
        return self.bench.connections.redis

    def finished(self, keys: list[ObjectId], timeout: float = 30.0) -> list[LedgerEntry]:
        """The entries, once all have an outcome whose event is out."""

        def check() -> bool:
            open_ = {"_id": {"$in": keys}, "$or": [{"status": "accepted"}, {"unsent": True}]}
            left = self.database.snapshotrequests.count_documents(open_)
            assert left == 0, f"{left} of {len(keys)} requests have no outcome"
            assert not self.bench.service.ledger.outbox.contains_any(keys), "events are unsent"
            return True

        eventually(check, timeout, 0.05)
        return self.bench.entries(keys)

    def publish(self, keys: list[ObjectId], queue: str = "snapshots", size: int = 1) -> None:
        chunks = [[str(key) for key in keys[first : first + size]] for first in range(0, len(keys), size)]
        CeleryPublisher(self.app)(queue, chunks, self.bench.service.clock.now())

    def logs(self) -> str:
        logs = (child.log for child in (self.worker, self.beat) if child.log)
        return "".join(each.read_text(errors="replace") for each in logs if each.exists())


def pool_of(worker: Child) -> list[psutil.Process]:
    """The processes that run a worker's tasks."""
    return psutil.Process(worker.pid).children()


def kill_pool(worker: Child) -> None:
    """SIGKILL to the worker's pool processes; the worker itself goes on."""
    for process in pool_of(worker):
        process.send_signal(signal.SIGKILL)


@contextmanager
def stack(settings: Settings, folder: Path, env: Mapping[str, str] | None = None) -> Iterator[Running]:
    """A worker of one process, and beat; both end with the block.

    `env`: further settings in capitals, without their prefix.
    """
    environment = {
        f"{PREFIX}REDIS_URL": settings.redis_url,
        f"{PREFIX}MONGO_URL": settings.mongo_url,
        f"{PREFIX}MONGO_DATABASE": settings.mongo_database,
        f"{PREFIX}LOG_FORMAT": "json",
        **{f"{PREFIX}{name}": value for name, value in (env or {}).items()},
    }
    servers = {f"{PREFIX}REDIS_URL", f"{PREFIX}MONGO_URL"}  # may name those that the tests are to use
    changed = {name for name in os.environ if name.startswith(PREFIX)} - servers
    assert not changed & set(environment), "the environment would be taken for the test's own settings"
    with ExitStack() as stack_:
        bench = stack_.enter_context(bench_on(settings))
        app = Celery("a foreign producer", set_as_current=False)
        app.conf.update(settings.redis.celery_settings())
        stack_.callback(app.close)
        bench.service.publish = CeleryPublisher(app)
        running = Running(settings, bench, worker(folder, environment), _beat(folder, environment), app)
        for child in (running.worker, running.beat):
            child.start()
            stack_.callback(child.kill)
        running.worker.wait_until_ready(60)
        yield running


def worker(folder: Path, environment: dict[str, str], name: str = "worker") -> Child:
    """One more worker, not started yet."""
    arguments = ["worker", "-P", "prefork", "-c", "1", "-Q", QUEUES, "-n", f"{name}@%h", "-E"]
    child = _celery(name, [*arguments, "--without-gossip", "--without-mingle"], folder, environment)
    child.ready = _says_ready(child)
    return child


def _says_ready(child: Child) -> Callable[[], bool]:
    return lambda: " ready." in child.output()


def _beat(folder: Path, environment: dict[str, str]) -> Child:
    return _celery("beat", ["beat", "-s", str(folder / "beat-schedule")], folder, environment)


def _celery(name: str, arguments: list[str], folder: Path, environment: dict[str, str]) -> Child:
    argv = [sys.executable, "-m", "celery", "-A", "worker", *arguments, "--loglevel", "INFO"]
    return Child(name, argv, environment, folder / f"{name}.log")
