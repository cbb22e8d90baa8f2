"""One run: starts servers and processes, sends requests, injects faults, and checks the result."""

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

from chaos import kept_counts, producers, recovery, report, schedule, servers, taken
from chaos.checker import check
from chaos.collector import Collector
from chaos.context import Context
from chaos.dataset import Dataset
from chaos.driver import Driver
from chaos.evidence import gather
from chaos.faults import erasure
from chaos.gauges import Gauges
from chaos.journal import Journal, tokens_in
from chaos.result import Result
from chaos.schedule import Lanes
from chaos.system import PLACES, SECRET, System, running
from support.places import Place
from worker.jobs.job import UNFINISHED
from worker.local.data_folder import DataFolder, data_folder
from worker.settings import Settings
from worker.stores.wakeups import REQUEST_QUEUES

_DRAIN_SECONDS = 240.0
_SHARES = {"bulk": 10, "stream": 4, "http": 2, "task": 2, "closing": 2}
"""By channel. Half of the requests come in chunks: on two cores, three MongoDB members leave room for 30 single ones a
second."""
_RATE = 33.0  # requests a second
_LEAST_SECONDS = 150.0


@dataclass(frozen=True)
class Options:
    """Options of a run. `faults` is a count by kind; by default, the number of requests decides."""

    requests: int = 5000
    seconds: float = 0.0
    """How long requests are sent and faults injected; 0: by the number of requests, at least 150."""
    seed: int = 1
    sentinel: bool = False
    """Whether Redis has replicas and Sentinels."""
    faults: Mapping[str, int] | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, str] = field(default_factory=dict)
    """Environment variables of the launcher."""
    channels: tuple[str, ...] = tuple(_SHARES)
    drain_seconds: float = _DRAIN_SECONDS
    without: tuple[str, ...] = ()
    """Processes that do not run."""
    places: Mapping[str, Place] = field(default_factory=lambda: PLACES)
    """The processes, and where they run."""
    lanes: Lanes = field(default_factory=lambda: schedule.LANES)
    """The faults that `faults` names."""
    files: Path | None = None
    """The folder for the driver's and the consumer's files; by default the servers' folder."""
    keep: Path | None = None
    """A folder in which logs and files are kept."""


Script = Callable[[Context], Any]
"""Faults in a fixed order instead of a schedule, for the tests of the checker."""


def run(options: Options, script: Script | None = None, say: Callable[[str], None] = print) -> Result:
    """Runs with its own servers, and removes everything afterwards."""
    with data_folder(options.keep) as folder, servers.running(folder, with_sentinels=options.sentinel) as stores:
        return run_on(stores, folder, options, script, say)


def run_on(
    stores: servers.Servers,
    folder: DataFolder,
    options: Options,
    script: Script | None = None,
    say: Callable[[str], None] = print,
) -> Result:
    """Runs on servers that are up and empty."""
    began = time.monotonic()
    files = options.files or folder.path
    with running(folder, stores, options.settings, options.extra, options.without, options.places) as system:
        say(f"up after {time.monotonic() - began:.0f} s, in {folder.path}")
        context = Context(
            stores,
            system,
            Collector(system.settings, files / "events.jsonl"),
            stores.witness(),
            random.Random(options.seed),
            threading.Event(),
        )
        gauges = Gauges(system, stores.mongo_ports)
        gauges.start()
        try:
            settled = _settle(context, files / "sent.jsonl", options, script)
        finally:
            gauges.close()
        say(f"{'settled' if settled else 'NOT settled'} after {time.monotonic() - began:.0f} s")
        (files / "losses.txt").write_text("\n".join(map(str, context.witness.losses())))
        return _judge(context, files, {**dict(gauges.rows()), "seed": options.seed}, settled)


def _settle(context: Context, journal_path: Path, options: Options, script: Script | None) -> bool:
    """Sends requests and injects faults; returns whether everything was finished in time afterwards."""
    with contextlib.ExitStack() as stack:
        journal = Journal(journal_path)
        stack.callback(journal.close)
        channels = _producers(options, context.system, stack)
        driver = Driver(context.system.settings, channels, journal, random.Random(options.seed + 1))
        context.driver = driver
        context.witness.start()
        stack.callback(context.witness.close)
        context.collector.start()
        stack.callback(context.collector.close)
        stack.callback(driver.close)
        stack.callback(context.stop.set)
        _drive(context, driver, options, script)
        settled = _drain(context, driver, options.drain_seconds)
        if context.erased:
            for person in context.erased:
                erasure.try_again(context, person)
            settled = _drain(context, driver, options.drain_seconds) and settled
        return settled


def _judge(context: Context, folder: Path, rows: Mapping[str, Any], settled: bool) -> Result:
    witness = context.witness
    settings, sent, events = context.system.settings, folder / "sent.jsonl", folder / "events.jsonl"
    assert context.dataset is not None
    left = erasure.findings(settings, context.erased)  # first, because it waits for what still runs
    evidence = gather(settings, sent, events, witness.seen, witness.losses(), context.dataset.erasing)
    evidence.left_of_erased = left
    evidence.taken = taken.read(context.system.points.folder)
    if settled:
        evidence.kept, evidence.wrong_counts = kept_counts.read(settings)
    verdict = check(evidence, [*context.collector.violations, *witness.violations])
    own = {
        "times that the identity was checked and held": (
            f"{context.collector.identities} of {context.collector.attempts}"
        ),
        "requests that the sweep enqueued again": sum(bool(entry.get("swept")) for entry in evidence.ledger),
        "requests with an id that were sent again": context.driver.repeated if context.driver else 0,
        "rollbacks in MongoDB": context.servers.rollbacks(),
        "damaged append-only files": context.servers.repaired(),
        "entries that were rejected": evidence.rejections,
        "processes started again": dict(Counter(context.servers.deaths + context.system.deaths)),
    }
    recoveries = recovery.by_fault(evidence, context.injected)
    if recoveries:
        own["slowest recoveries"] = recovery.slowest(recoveries, min(each.fault.began for each in recoveries))
    rows_of_faults = [{**vars(each.fault), "recovery": each.seconds, "last": each.last} for each in recoveries]
    (folder / "faults.json").write_text(json.dumps(rows_of_faults, indent=1))
    recovered, latency = recovery.recovery(recoveries), recovery.latency(evidence)
    table = report.table(verdict, context.injected, own | dict(rows), recovered, latency)
    return Result(verdict, evidence, list(context.injected), list(context.missed), table, recovered, settled)


def _producers(options: Options, system: System, stack: contextlib.ExitStack) -> dict[str, producers.Producer]:
    """The producers of the channels whose processes run."""
    found: dict[str, producers.Producer] = {}
    plain = {"task": producers.task, "bulk": producers.bulk}
    if system.named("listener"):
        plain |= {"stream": producers.stream, "burst": producers.burst, "closing": producers.closing}
    for name, make in plain.items():
        if name in options.channels or name == "burst":
            found[name] = make(system.settings, stack)
    if system.apis and "http" in options.channels:
        found["http"] = producers.http(system.apis, SECRET, stack)
    return found


def _drive(context: Context, driver: Driver, options: Options, script: Script | None) -> None:
    """Sends requests and injects faults until the time is over and every fault has ended."""
    settings = context.system.settings
    names = [name for name in options.channels if name in driver.channels]
    dataset = context.dataset = Dataset(random.Random(options.seed + 2))
    with pymongo.MongoClient[Any](settings.mongo_url, w="majority") as mongo:
        pattern = [name for name in names for _ in range(_SHARES[name])]
        random.Random(options.seed).shuffle(pattern)
        dataset.fill(mongo[settings.mongo_database], options.requests * pattern.count("closing") // len(pattern))
    seconds = options.seconds or max(_LEAST_SECONDS, options.requests / _RATE)
    context.collector.erasing = str(dataset.erasing)
    driver.start(dataset.requests(options.requests, pattern), 0.9 * seconds)
    begin = time.monotonic()
    if script:
        script(context)
    else:
        wanted = (
            options.faults
            if options.faults is not None
            else schedule.counts(options.requests, sentinel=options.sentinel)
        )
        lanes = schedule.plan(wanted, seconds, context.dice, options.lanes)
        for thread in schedule.start(context, lanes, options.seed, begin):
            thread.join(2 * seconds + 120)
            if thread.is_alive():
                context.missed.append(f"{thread.name}: a fault did not end")
        context.missed += schedule.never_done(wanted, context.injected)
    time.sleep(max(0.0, begin + seconds - time.monotonic()))


def _drain(context: Context, driver: Driver, seconds: float) -> bool:
    """Waits until everything that was sent is settled; returns whether it is."""
    settings = context.system.settings
    deadline = time.monotonic() + seconds
    with pymongo.MongoClient[Any](settings.mongo_url, timeoutMS=20_000) as mongo:
        database = mongo[settings.mongo_database]
        while time.monotonic() < deadline:
            with contextlib.suppress(pymongo.errors.PyMongoError, redis.RedisError):
                if driver.unsettled == 0 and _is_settled(database, settings):
                    return True
            time.sleep(1.0)
    with contextlib.suppress(redis.RedisError), settings.redis.client(socket_timeout=20) as broker:
        context.collector.violations += [f"at the end, {each}" for each in _left(broker, settings)]
    return False


def _is_settled(database: Any, settings: Settings) -> bool:
    """Whether no request is open, no event unsent, no replay owed, no entry or message left, and each event is out."""
    ledger = database[settings.requests_collection]
    if ledger.find_one({"$or": [{"status": "accepted"}, {"unsent": True}]}, {"_id": 1}):
        return False
    if database[settings.outbox_collection].find_one():
        return False
    if database[settings.jobs_collection].find_one({"$or": [{"status": {"$in": UNFINISHED}}, {"unsent": True}]}):
        return False
    with settings.redis.client(socket_timeout=20) as broker:
        state = database[settings.state_collection].find_one({"_id": "redis"}) or {}
        marker: Any = broker.get("snapshots:marker")
        if state.get("owedFrom") or (state.get("marker") or "").encode() != (marker or b""):
            return False
        if _left(broker, settings) or _is_held(broker, ledger):
            return False
        length: Any = broker.xlen(settings.events_stream)
        return bool(length >= ledger.count_documents({}))


def _is_held(broker: "redis.Redis", ledger: Any) -> bool:
    """Whether a worker, which may be dead, has taken a Celery message whose request is not in the ledger yet."""
    messages: Any = broker.hvals("unacked")
    tokens = {token for message in messages for token in tokens_in(message)}
    known = {tag for entry in ledger.find({"tags": {"$in": list(tokens)}}, {"tags": 1}) for tag in entry["tags"]}
    return not tokens <= known


def _left(broker: "redis.Redis", settings: Settings) -> list[str]:
    """What still waits in Redis: messages, and intake entries that are not acknowledged."""
    lengths = {queue: broker.llen(queue) for queue in REQUEST_QUEUES}
    left = [f"{length} messages wait in {queue}" for queue, length in lengths.items() if length]
    with contextlib.suppress(redis.ResponseError):  # no stream, no group
        groups: Any = broker.xinfo_groups(settings.requests_stream)
        left += [
            f"{group['pending']} intake entries are pending, {group['lag']} unread"
            for group in groups
            if group["pending"] or group["lag"]
        ]
    return left
