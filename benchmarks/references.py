"""The references of each round: PyMongo without a queue, and Celery with its defaults."""

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.actors import Actor
from benchmarks.meters import Meters
from benchmarks.naive_celery import MARKS
from benchmarks.pipeline import Incomplete, order, suspended
from benchmarks.runs import BULK, LOOP, NAIVE, Run
from benchmarks.session import OUTBOX, SNAPSHOTS, Session
from worker.local.processes import Child

_PROCESSES = 2
_WARM_UP = 20


def loop(session: Session, number: int) -> Run:
    """PyMongo, one job at a time."""
    return _without_queue(session, number, LOOP, "loop", session.options.amounts.loop)


def bulk(session: Session, number: int) -> Run:
    """PyMongo in chunks, with messages shaped by the server."""
    return _without_queue(session, number, BULK, "bulk", session.options.amounts.bulk)


def _without_queue(session: Session, number: int, name: str, kind: str, count: int) -> Run:
    session.clear()
    with ExitStack() as stack:
        actors = [
            stack.enter_context(
                Actor(
                    session,
                    "benchmarks.reference_process",
                    kind,
                    order(session, count, name, share=share, shares=_PROCESSES),
                )
            )
            for share in range(_PROCESSES)
        ]
        meters = Meters(session)
        meters.start()
        for actor in actors:
            actor.cue()
        reports = [actor.report(meters.look) for actor in actors]
        costs = meters.stop(count, {"worker": sum(each["cpu"] for each in reports)})
    _check(session, count)
    seconds = max(each["ended"] for each in reports) - min(each["began"] for each in reports)
    return Run(name, number, count, count / seconds, costs)


def naive(session: Session, number: int) -> Run:
    """Celery with its defaults: enqueues all jobs while the worker is stopped, then lets it continue."""
    count = session.options.amounts.naive
    with naive_worker(session) as (worker, marks):
        with Actor(session, "benchmarks.naive_celery", order(session, count, "naive")) as producer:
            meters = Meters(session, {"worker": worker.pid})
            meters.start()
            with suspended([worker.pid]):
                producer.cue()
                report = producer.report()
                released = time.time()
        done = _wait_for(marks, count, meters)
        costs = meters.stop(count, {"producer": report["cpu"]})
        _check(session, count + _WARM_UP)
    seconds, accepting = max(done.values()) - released, report["ended"] - report["began"]
    whole = count / (seconds + accepting)
    return Run(NAIVE, number, count, count / seconds, costs, whole, producer_rate=count / accepting)


@contextmanager
def naive_worker(session: Session) -> Iterator[tuple[Child, Path]]:
    """Run a warm worker of two processes; yield it and the empty file for its marks."""
    session.clear()
    with TemporaryDirectory(dir=session.folder) as folder, ExitStack() as stack:
        marks = Path(folder) / "marks"
        argv = [sys.executable, "-m", "celery", "-A", "benchmarks.naive_celery", "worker", "-c", "2", "-l", "INFO"]
        child = Child("naive", argv, session.environment | {MARKS: str(marks)}, Path(folder) / "naive.log")
        child.ready = lambda: " ready." in child.output()
        stack.callback(child.kill)
        child.start()
        child.wait_until_ready(60)
        with Actor(session, "benchmarks.naive_celery", order(session, _WARM_UP, "warm")) as producer:
            producer.cue()
            producer.report()
        _wait_for(marks, _WARM_UP, Meters(session))
        marks.write_bytes(b"")
        yield child, marks


def marked(marks: Path) -> dict[str, float]:
    """Return when each request was done, by request id."""
    lines = (line.split() for line in marks.read_text().splitlines()) if marks.exists() else ()
    return {request_id: float(when) for request_id, when in lines}


def _wait_for(marks: Path, count: int, meters: Meters) -> dict[str, float]:
    deadline = time.monotonic() + 120
    while len(done := marked(marks)) < count:
        if time.monotonic() > deadline:
            raise Incomplete(f"{len(done)} of {count} jobs done")
        time.sleep(0.2)
        meters.look()
    return done


def _check(session: Session, count: int) -> None:
    found = {name: session.database[name].count_documents({}) for name in (SNAPSHOTS, OUTBOX)}
    if set(found.values()) != {count}:
        raise Incomplete(f"stored {found}, expected {count} each")
