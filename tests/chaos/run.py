"""One run: servers, processes, requests, faults, and the verdict."""

import contextlib
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pymongo
import redis

from chaos import producers as ways
from chaos import recovery, report, schedule, servers
from chaos.checker import Verdict, check
from chaos.collector import Collector
from chaos.context import Arena, Done
from chaos.dataset import World
from chaos.driver import Driver
from chaos.evidence import Evidence, gather
from chaos.faults import broker
from chaos.gauges import Gauges
from chaos.journal import Book
from chaos.system import SECRET, System, running
from worker.local.data_folder import DataFolder, data_folder
from worker.settings import Settings

_DRAIN_SECONDS = 240.0
_SHARES = {"bulk": 10, "stream": 4, "http": 2, "task": 2, "closing": 2}
"""Of the ways. Half come in chunks: on two cores three MongoDB members leave room for 30 single ones a second."""
_RATE = 33.0  # requests a second
_LEAST_SECONDS = 150.0


@dataclass(frozen=True)
class Options:
    """Of a run. `faults` is a count by kind, else what the number of requests calls for."""

    requests: int = 5000
    seconds: float = 0.0
    """Of requests and faults; 0: as many as the number of requests takes, 200 at least."""
    seed: int = 1
    faults: Mapping[str, int] | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, str] = field(default_factory=dict)
    """Of the processes' entry point."""
    ways: tuple[str, ...] = tuple(_SHARES)
    drain_seconds: float = _DRAIN_SECONDS
    without: tuple[str, ...] = ()
    """Processes that are not run."""
    files: Path | None = None
    """The folder of the driver's and the consumer's files, else the servers' own."""
    keep: Path | None = None
    """A folder for the logs and files, kept."""


@dataclass
class Result:
    """What came of it."""

    verdict: Verdict
    evidence: Evidence
    faults: list[Done]
    missed: list[str]
    table: str
    recovered: recovery.Times

    @property
    def is_a_proof(self) -> bool:
        """Whether nearly all the faults were done, and each kind at least once."""
        return len(self.missed) <= 0.1 * (len(self.faults) + len(self.missed)) and not any(
            each.endswith("never done") for each in self.missed
        )


Script = Callable[[Arena], None]
"""Faults in a fixed order instead of a schedule: what the tests of the checker need."""


def run(options: Options, script: Script | None = None, say: Callable[[str], None] = print) -> Result:
    """Everything, from nothing and back to it."""
    with data_folder(options.keep) as folder, servers.running(folder) as stores:
        return run_on(stores, folder, options, script, say)


def run_on(
    stores: servers.Servers,
    folder: DataFolder,
    options: Options,
    script: Script | None = None,
    say: Callable[[str], None] = print,
) -> Result:
    """On servers that are there, and empty."""
    began = time.monotonic()
    files = options.files or folder.path
    with running(folder, stores, options.settings, options.extra, options.without) as system:
        say(f"up after {time.monotonic() - began:.0f} s, in {folder.path}")
        arena = Arena(
            stores,
            system,
            Collector(system.settings, files / "events.jsonl"),
            random.Random(options.seed),
            threading.Event(),
        )
        gauges = Gauges(system, stores.ports)
        gauges.start()
        try:
            whole = _settle(arena, files / "sent.jsonl", options, script)
        finally:
            gauges.close()
        say(f"{'settled' if whole else 'NOT settled'} after {time.monotonic() - began:.0f} s")
        (files / "faults.json").write_text(json.dumps([vars(each) for each in arena.done], indent=1))
        return _judge(arena, files, {**dict(gauges.rows()), "seed": options.seed})


def _settle(arena: Arena, book_path: Path, options: Options, script: Script | None) -> bool:
    """Requests and faults, and what they leave to be done; whether all of it was done in time."""
    with contextlib.ExitStack() as stack:
        book = Book(book_path)
        stack.callback(book.close)
        made = _ways(options, arena.system, stack)
        driver = Driver(arena.system.settings, made, book, random.Random(options.seed + 1))
        arena.collector.start()
        stack.callback(arena.collector.close)
        stack.callback(driver.close)
        stack.callback(arena.stop.set)
        _drive(arena, driver, options, script)
        return _drain(arena, driver, options.drain_seconds)


def _judge(arena: Arena, folder: Path, rows: Mapping[str, Any]) -> Result:
    evidence = gather(arena.system.settings, folder / "sent.jsonl", folder / "events.jsonl")
    lost = [(each.began, each.ended) for each in arena.done if each.kind in broker.LOSSY]
    if arena.servers.mended():  # an append-only file was cut: no one knows how far back
        lost.append((0.0, time.time()))
    verdict = check(evidence, arena.collector.violations, lost)
    own = {
        "times that the identity was seen to hold": arena.collector.identities,
        "rollbacks in MongoDB": arena.servers.rollbacks(),
        "damaged append-only files": arena.servers.mended(),
        "processes started again": dict(Counter(arena.servers.deaths + arena.system.deaths)),
    }
    recovered, latency = recovery.recovery(evidence, arena.done), recovery.latency(evidence)
    table = report.table(verdict, arena.done, own | dict(rows), recovered, latency)
    return Result(verdict, evidence, list(arena.done), list(arena.missed), table, recovered)


def _ways(options: Options, system: System, stack: contextlib.ExitStack) -> dict[str, ways.Way]:
    """Those that are asked for, where the processes run that they need."""
    made: dict[str, ways.Way] = {}
    plain = {"task": ways.task, "bulk": ways.bulk}
    if system.named("listener"):
        plain |= {"stream": ways.stream, "closing": ways.closing}
    for name, make in plain.items():
        if name in options.ways:
            made[name] = make(system.settings, stack)
    if system.api and "http" in options.ways:
        made["http"] = ways.http(system.api, SECRET, stack)
    return made


def _drive(arena: Arena, driver: Driver, options: Options, script: Script | None) -> None:
    """Until the time is over and every fault has had its end."""
    settings = arena.system.settings
    names = [name for name in options.ways if name in driver.ways]
    world = World(random.Random(options.seed + 2))
    with pymongo.MongoClient[Any](settings.mongo_url, w="majority") as mongo:
        pattern = [name for name in names for _ in range(_SHARES[name])]
        random.Random(options.seed).shuffle(pattern)
        world.fill(mongo[settings.mongo_database], options.requests * pattern.count("closing") // len(pattern))
    seconds = options.seconds or max(_LEAST_SECONDS, options.requests / _RATE)
    driver.start(world.requests(options.requests, pattern), 0.9 * seconds)
    begin = time.monotonic()
    if script:
        script(arena)
    else:
        wanted = options.faults if options.faults is not None else schedule.counts(options.requests)
        lanes = schedule.plan(wanted, seconds, arena.dice)
        for thread in schedule.start(arena, lanes, options.seed, begin):
            thread.join(2 * seconds + 120)
            if thread.is_alive():
                arena.missed.append(f"{thread.name}: a fault has no end")
        arena.missed += schedule.never_done(wanted, arena.done)
    time.sleep(max(0.0, begin + seconds - time.monotonic()))


def _drain(arena: Arena, driver: Driver, seconds: float) -> bool:
    """Waits until everything that was sent is settled, in the ledger and in the stream; whether it is."""
    settings = arena.system.settings
    deadline = time.monotonic() + seconds
    with pymongo.MongoClient[Any](settings.mongo_url, timeoutMS=20_000) as mongo:
        database = mongo[settings.mongo_database]
        while time.monotonic() < deadline:
            with contextlib.suppress(pymongo.errors.PyMongoError, redis.RedisError):
                if driver.unsettled == 0 and _is_settled(database, settings):
                    return True
            time.sleep(1.0)
    return False


def _is_settled(database: Any, settings: Settings) -> bool:
    """No request open, no event unsent, Redis's losses made good, and each outcome's event in the stream."""
    ledger = database[settings.requests_collection]
    if ledger.find_one({"$or": [{"status": "accepted"}, {"unsent": True}]}, {"_id": 1}):
        return False
    with redis.Redis.from_url(settings.redis_url, socket_timeout=20) as broker:
        state = database[settings.state_collection].find_one({"_id": "redis"}) or {}
        marker: Any = broker.get("snapshots:marker")
        if state.get("owedFrom") or (state.get("marker") or "").encode() != (marker or b""):
            return False
        length: Any = broker.xlen(settings.events_stream)
        return bool(length >= ledger.count_documents({}))
