"""What tests of the doctor do beside it: its findings, a Redis configured otherwise, all that is stored."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pymongo

from support.ledger import Bench
from worker.doctor.findings import Finding, Level


def faults(check: Any, bench: Bench) -> list[Finding]:
    """What is not fine."""
    found: list[Finding] = [each for each in check(bench.connections) if each.level is not Level.OK]
    assert all(each.advice for each in found)
    return found


@contextmanager
def configured(bench: Bench, name: str, value: str) -> Iterator[None]:
    client: Any = bench.connections.redis
    before = client.config_get(name)[name]
    client.config_set(name, value)
    try:
        yield
    finally:
        client.config_set(name, before)


def everything(bench: Bench) -> dict[str, Any]:
    """All that is in the database and in Redis, but for what the processes themselves write all the time."""
    with pymongo.MongoClient[Any](bench.settings.mongo_url) as client:
        database = client[bench.settings.mongo_database]
        names = [name for name in database.list_collection_names() if name != "snapshotstate"]
        found: dict[str, Any] = {name: list(database[name].find()) for name in sorted(names)}
    redis: Any = bench.connections.redis
    for key in sorted(redis.keys()):
        name = key.decode()
        if name.startswith(("_kombu", "unacked", "snapshots:marker", "snapshots:pulse")) or redis.ttl(key) > 0:
            continue
        kind = redis.type(key).decode()
        found[name] = redis.xrange(key) if kind == "stream" else redis.lrange(key, 0, -1) if kind == "list" else kind
    return {name: json.dumps(value, default=str) for name, value in found.items() if value}
