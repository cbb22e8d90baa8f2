"""Helpers for tests of the doctor: problems found, changed Redis parameters, a picture of all stored data."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pymongo

from support.ledger import Bench
from worker.doctor.findings import Finding, Level
from worker.stores.counts import CHECK, FOLD


def faults(check: Any, bench: Bench) -> list[Finding]:
    """Run a check and return its failures and warnings, each of which must have advice."""
    problems: list[Finding] = [finding for finding in check(bench.connections) if finding.level is not Level.OK]
    assert all(problem.advice for problem in problems)
    return problems


@contextmanager
def configured(bench: Bench, name: str, value: str) -> Iterator[None]:
    """Change a parameter of Redis within the block."""
    client: Any = bench.connections.redis
    before = client.config_get(name)[name]
    client.config_set(name, value)
    try:
        yield
    finally:
        client.config_set(name, before)


def everything(bench: Bench) -> dict[str, Any]:
    """Everything in the database and in Redis, except what running processes write all the time."""
    with pymongo.MongoClient[Any](bench.settings.mongo_url) as client:
        database = client[bench.settings.mongo_database]
        names = [name for name in database.list_collection_names() if name != "snapshotstate"]
        # Each sweep writes how far it has counted and compared.
        found: dict[str, Any] = {
            name: list(database[name].find({"_id": {"$nin": [FOLD, CHECK]}})) for name in sorted(names)
        }
    redis: Any = bench.connections.redis
    for key in sorted(redis.keys()):
        name = key.decode()
        if name.startswith(("_kombu", "unacked", "snapshots:marker", "snapshots:pulse")) or redis.ttl(key) > 0:
            continue
        kind = redis.type(key).decode()
        found[name] = redis.xrange(key) if kind == "stream" else redis.lrange(key, 0, -1) if kind == "list" else kind
    return {name: repr(value) for name, value in found.items() if value}  # repr: JSON refuses keys that are bytes
