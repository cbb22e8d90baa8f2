"""Erasures that run in this process, and a search of everything that is independent of the product's."""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from bson import ObjectId
from pydantic import SecretStr
from pymongo.database import Database

from support.ledger import Bench, bench_on
from support.waiting import eventually
from worker.erasure.accepting import accept_erasure
from worker.erasure.erasure import Erasure
from worker.erasure.receipt import make_keys
from worker.jobs.job import Job
from worker.jobs.slices import run_slice
from worker.jobs.store import Jobs
from worker.settings import Settings
from worker.stores import indexes

EMAIL, PHONE = "Priya.Holloway@example.com", "+15551234567"
PLATFORM = ("contacts", "users", "conversations", "messages")


def with_keys(settings: Settings, folder: Path) -> Settings:
    """Settings with keys, and a destination for exports."""
    key = folder / "erasure.pem"
    make_keys(key)
    changes = {"erasure_key": SecretStr("k" * 32), "erasure_signing_key": key, "exports_url": str(folder / "exports")}
    return settings.model_copy(update=changes)


@contextmanager
def erasing_bench(settings: Settings, folder: Path) -> Iterator[Bench]:
    with bench_on(with_keys(settings, folder)) as made:
        indexes.ensure(made.connections)
        yield made


def person(bench: Bench) -> ObjectId:
    return bench.contact(email=EMAIL, phoneNumber=PHONE, lastName="Holloway")


class Erasing:
    """Erasures of a bench, run slice by slice."""

    def __init__(self, bench: Bench, settle: timedelta = timedelta(0)) -> None:
        self.bench = bench
        self.jobs = Jobs(bench.service)
        self.work = Erasure(self.jobs, settle)

    def accept(self, contact: ObjectId) -> Job:
        return accept_erasure(self.jobs, self.bench.organization, contact)

    def slice(self, job: Job) -> Job:
        run_slice(self.jobs, job.id, "test", self.work, self.work.clean_up)
        return self.jobs.get(job.id)

    def finish(self, job: Job) -> Job:
        for _ in range(200):
            if (job := self.slice(job)).is_finished:
                return job
        raise AssertionError(f"not finished: {job}")

    def run(self, contact: ObjectId) -> Job:
        return self.finish(self.accept(contact))


def celery_message(body: Any, **headers: Any) -> str:
    """A message of a foreign producer, whose body is encoded in base64."""
    encoded = base64.b64encode(json.dumps([[body], {}, {}]).encode()).decode()
    return json.dumps({"body": encoded, "headers": {"task": "snapshots.request", "id": "1", **headers}})


def places_of(database: Database[Any], redis: Any, folder: Path, *needles: str | bytes) -> list[str]:
    """Where one of the needles is found: in our collections, in Redis or in files."""
    wanted = [each.encode().lower() if isinstance(each, str) else each for each in needles]
    found = {name for name, data in _contents(database, redis, folder) if any(_has(data, each) for each in wanted)}
    return sorted(found)


def left_of(bench: Bench, contact: ObjectId) -> list[str]:
    """The places where a person's id, address or number still is."""
    folder = Path(str(bench.settings.exports_url))
    needles = (str(contact), contact.binary, EMAIL, PHONE)
    return places_of(bench.database, bench.connections.redis, folder, *needles)


def _has(data: bytes, needle: bytes) -> bool:
    return needle in data or needle in data.lower()


def _contents(database: Database[Any], redis: Any, folder: Path) -> Iterator[tuple[str, bytes]]:
    import bson

    for name in database.list_collection_names():
        if name not in PLATFORM:
            for document in database[name].find():
                yield name, bson.encode(document)
    for key in redis.keys("*"):
        for value in _values(redis, key):
            yield key.decode(errors="replace"), value
            yield key.decode(errors="replace"), b"".join(_bodies(value))
    for path in folder.rglob("*") if folder.exists() else ():
        if path.is_file():
            yield str(path.relative_to(folder)), path.read_bytes()


def _values(redis: Any, key: bytes) -> Iterator[bytes]:
    yield key
    match redis.type(key).decode():
        case "string":
            yield redis.get(key) or b""
        case "list":
            yield from redis.lrange(key, 0, -1)
        case "hash":
            yield from (each for pair in redis.hgetall(key).items() for each in pair)
        case "set":
            yield from redis.smembers(key)
        case "zset":
            yield from redis.zrange(key, 0, -1)
        case "stream":
            yield from (each for _, fields in redis.xrange(key) for pair in fields.items() for each in pair)


def _bodies(value: bytes) -> Iterator[bytes]:
    try:
        found = json.loads(value)
        for message in found if isinstance(found, list) else [found]:
            if isinstance(message, dict) and "body" in message:
                yield base64.b64decode(message["body"])
    except ValueError:
        return


def in_append_only_file(redis: Any, *needles: str | bytes) -> list[bytes]:
    """The needles that Redis's append-only file has after a rewrite, without compression."""

    def is_over() -> bool:
        state = redis.info("persistence")
        return not (state["aof_rewrite_in_progress"] or state["aof_rewrite_scheduled"])

    before = redis.config_get("rdbcompression")
    redis.config_set("rdbcompression", "no")
    try:
        redis.bgrewriteaof()
        eventually(is_over, 60)
    finally:
        redis.config_set("rdbcompression", before["rdbcompression"])
    place = Path(redis.config_get("dir")["dir"], redis.config_get("appenddirname")["appenddirname"])
    named = [line.split()[1] for line in (place / "appendonly.aof.manifest").read_text().splitlines()]
    data = b"".join((place / name).read_bytes() for name in named)
    wanted = [each.encode() if isinstance(each, str) else each for each in needles]
    return [each for each in wanted if each in data]
