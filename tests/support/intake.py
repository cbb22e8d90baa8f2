"""The intake stream from outside: a producer, the state that listeners leave, and listeners as processes."""

import base64
import json
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis
from bson import ObjectId

from support.waiting import eventually
from worker.intake.listener import Listener
from worker.local.processes import Child
from worker.service import Service
from worker.settings import Settings

STREAM, REJECTED, EVENTS, GROUP = "snapshots:requests", "snapshots:rejected", "snapshots:events", "snapshots"
QUEUES = ("snapshots", "snapshots.bulk")
_LISTEN = "from worker.cli import main; main(['listen'], prog_name='snapshots')"
SKEWED = f"""
import datetime, time
real, off = time.time, float(__import__('os').environ['SKEW_SECONDS'])
time.time = lambda: real() + off
class Skewed(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(time.time(), tz)
    @classmethod
    def utcnow(cls):
        return cls.fromtimestamp(time.time(), datetime.timezone.utc).replace(tzinfo=None)
datetime.datetime = Skewed
{_LISTEN}
"""
"""A listener whose Python clock is wrong."""


class Producer:
    """A producer that knows only the published contract."""

    def __init__(self, settings: Settings) -> None:
        self.redis: Any = redis.Redis.from_url(settings.redis_url, decode_responses=True)
        self.organization = ObjectId()

    def add(self, kind: str, data: Any, **more: str) -> str:
        """Adds an entry and returns its id; `data` other than text is sent as JSON."""
        text = data if isinstance(data, str | bytes) else json.dumps(data)
        entry: str = self.redis.xadd(STREAM, {"type": kind, "data": text, **more})
        return entry

    def request(self, request_id: str | None = None, **fields: Any) -> str:
        return self.add("snapshot.requested", self.body(request_id, **fields))

    def body(self, request_id: str | None = None, **fields: Any) -> dict[str, Any]:
        data = {"organizationId": str(self.organization), "contactId": str(ObjectId()), **fields}
        return data if request_id is None else data | {"requestId": request_id}

    def requests(self, names: Sequence[str], **fields: Any) -> list[str]:
        """Adds many entries in one pipeline and returns their ids."""
        with self.redis.pipeline(transaction=False) as pipeline:
            for name in names:
                body = json.dumps(self.body(name, **fields))
                pipeline.xadd(STREAM, {"type": "snapshot.requested", "data": body})
            added: list[str] = pipeline.execute()
        return added

    # --- results ----------------------------------------------------------------------------

    def pending(self) -> int:
        return int(self.redis.xpending(STREAM, GROUP)["pending"])

    def unread(self) -> int:
        """Returns the number of entries that no listener has received."""
        groups = self.redis.xinfo_groups(STREAM) if self.redis.exists(STREAM) else []
        given = [each["last-delivered-id"] for each in groups if each["name"] == GROUP]
        assert given, "no group yet"
        return len(self.redis.xrange(STREAM, min=f"({given[0]}"))

    def wait_until_settled(self, timeout: float = 20) -> None:
        def settled() -> bool:
            assert self.unread() == 0
            assert self.pending() == 0
            return True

        eventually(settled, timeout)

    def rejected(self) -> dict[str, dict[str, Any]]:
        """Returns the rejected entries by origin, each of which may occur once."""
        found: dict[str, dict[str, Any]] = {}
        for _, fields in self.redis.xrange(REJECTED):
            assert fields["origin"] not in found, "rejected twice"
            found[fields["origin"]] = {
                "reason": json.loads(fields["reason"]),
                "entry": json.loads(fields["entry"]),
            }
        return found

    def messages(self) -> dict[str, list[list[str]]]:
        """Returns the ledger ids in each Celery message by queue, oldest first."""
        found: dict[str, list[list[str]]] = {}
        for queue in QUEUES:
            messages = [json.loads(each) for each in reversed(self.redis.lrange(queue, 0, -1))]
            found[queue] = [_ids_of(message) for message in messages]
        return found

    def close(self) -> None:
        self.redis.close()


def _ids_of(message: dict[str, Any]) -> list[str]:
    (ids,) = json.loads(base64.b64decode(message["body"]))[0]
    return list(ids)


@contextmanager
def producer_on(settings: Settings) -> Iterator[Producer]:
    producer = Producer(settings)
    try:
        yield producer
    finally:
        producer.close()


def listener_process(
    settings: Settings, log: Path, more: Mapping[str, str] | None = None, skew: float | None = None
) -> Child:
    """Returns `snapshots listen` as a process that is not started yet."""
    environment = {
        "SNAPSHOTS_MONGO_URL": settings.mongo_url,
        "SNAPSHOTS_REDIS_URL": settings.redis_url,
        "SNAPSHOTS_MONGO_DATABASE": settings.mongo_database,
        "SNAPSHOTS_LOG_FORMAT": "json",
        "PYTHONPATH": os.pathsep.join(sys.path),
        **(more or {}),
    }
    if skew is not None:
        environment["SKEW_SECONDS"] = str(skew)
    argv = [sys.executable, "-c", _LISTEN if skew is None else SKEWED]
    child = Child(log.stem, argv, environment, log)
    child.ready = lambda: '"listening"' in child.output()
    return child


@contextmanager
def listeners(*children: Child) -> Iterator[None]:
    """Starts the listeners, waits until they are ready, and stops them in the end."""
    try:
        for child in children:
            child.start()
        for child in children:
            child.wait_until_ready()
        yield
    finally:
        for child in children:
            child.stop()


@contextmanager
def listening(service: Service, count: int = 1) -> Iterator[None]:
    """Runs listeners in threads. Fails if one of them raises."""
    stop = threading.Event()
    faults: list[BaseException] = []

    def run() -> None:
        try:
            Listener(service).run(stop)
        except BaseException as error:
            faults.append(error)
            raise

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(20)
    assert not faults
    assert not any(thread.is_alive() for thread in threads)
