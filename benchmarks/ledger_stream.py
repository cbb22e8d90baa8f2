"""`python -m benchmarks.ledger_stream FOLDER`: the intake stream's rate on a full ledger, compared with an empty one.

`FOLDER` is one that `benchmarks.ledger_size --data` has filled. Both ledgers are on the same servers, in databases of
their own, and are measured in turn.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pymongo
import redis

from benchmarks.actors import Actor
from benchmarks.dataset import seed
from benchmarks.ledger_size import CACHE_GB, DATABASE
from benchmarks.options import read
from benchmarks.pipeline import Pipeline, running
from benchmarks.session import Session
from worker.bootstrap import build
from worker.local.embedded import Options, Servers, embedded
from worker.settings import PREFIX, load
from worker.stores import indexes
from worker.sweep.sweep import Sweep

_EMPTY = f"{DATABASE}_empty"
_CONTACTS = 5000


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit code: 0, or 1 if the full ledger's rate is less than 90 % of the empty one's."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ledger_stream", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=3, help="rounds of both (default: 3)")
    parser.add_argument("--count", type=int, default=10_000, help="requests of each round (default: 10000)")
    given = parser.parse_args(arguments)
    with embedded(given.folder, Options(cache_gb=CACHE_GB)) as servers, TemporaryDirectory() as folder:
        sessions = [_session(servers, Path(folder), name, place) for place, name in enumerate((DATABASE, _EMPTY))]
        ratios = []
        for number in range(given.rounds):
            in_turn = list(enumerate(sessions))[:: -1 if number % 2 else 1]
            rates = {place: _rate(session, f"{time.time_ns()}", given.count) for place, session in in_turn}
            ratios.append(rates[0] / rates[1])
            print(f"full {rates[0]:8.0f}/s   empty {rates[1]:8.0f}/s   ratio {ratios[-1]:.3f}", flush=True)
    print(f"median ratio {statistics.median(ratios):.3f}")
    return 0 if statistics.median(ratios) >= 0.9 else 1


def _session(servers: Servers, folder: Path, database: str, place: int) -> Session:
    """Return a session on a database of its own, in MongoDB and in Redis, with conversations to ask for."""
    redis_url = f"{servers.redis_url.rpartition('/')[0]}/{place}"
    settings = load(redis_url=redis_url, mongo_url=servers.mongo_url, mongo_database=database)
    environment = servers.environment() | {f"{PREFIX}REDIS_URL": redis_url, f"{PREFIX}MONGO_DATABASE": database}
    mongo = pymongo.MongoClient[Any](servers.mongo_url, tz_aware=True)
    options = read(["--contacts", str(_CONTACTS)])
    made = Session(options, servers, settings, environment, folder, mongo, redis.Redis.from_url(redis_url))
    for name in (settings.contacts_collection, settings.conversations_collection, settings.messages_collection):
        mongo[database].drop_collection(name)
    seed(mongo[database], options.amounts.contacts, options.messages)
    service = build(settings)
    indexes.ensure(service.connections)
    for _ in range(3):  # what was emitted before the servers' start is emitted again now, not while it is measured
        Sweep(service)()
    service.connections.close()
    return made


def _rate(session: Session, tag: str, count: int) -> float:
    """Return the requests a second from the listener's start until the last event."""
    session.redis.delete(session.settings.events_stream, session.settings.requests_stream)
    with running(session) as ours:
        _send(session, ours, f"warm-{tag}", 500)
        ours.wait_for_events(500)
        with ours.held("listener"):
            _send(session, ours, tag, count)
            released = session.redis.time()
        last = ours.wait_for_events(500 + count)
    seconds: float = last - (released[0] + released[1] / 1e6)
    return count / seconds


def _send(session: Session, ours: Pipeline, tag: str, count: int) -> None:
    with Actor(session, "benchmarks.producer", "stream", ours.order(count, tag)) as producer:
        producer.cue()
        producer.report()


if __name__ == "__main__":
    sys.exit(main())
