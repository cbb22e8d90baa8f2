"""Our processes, as `snapshots up` starts them, on the session's servers."""

import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil

from benchmarks.actors import Actor
from benchmarks.meters import Meters, tree
from benchmarks.session import Session
from worker.domain.ledger_entry import COMPLETED
from worker.local.processes import Child
from worker.local.stack import processes

_START_SECONDS = 60.0
_WARM_UP = 20
"""Requests of each kind before a measurement, so that every process has its connections open."""
_LOOK_SECONDS = 0.2
_FINISH_SECONDS = 60.0


class Incomplete(Exception):
    """Not every request had its snapshot and its event in time."""


class Pipeline:
    """The running processes of one measurement."""

    def __init__(self, session: Session, children: list[Child]) -> None:
        self._session = session
        self._children = children
        self._events = 0

    @property
    def processes(self) -> dict[str, int]:
        """Return process ids by name."""
        return {child.name: child.pid for child in self._children}

    @property
    def logs(self) -> dict[str, Path]:
        """Return the log of each process, by name."""
        return {child.name: child.log for child in self._children if child.log}

    def warm_up(self) -> None:
        """Send some requests of each kind, whose events do not count."""
        for kind in ("interactive", "stream"):
            with Actor(self._session, "benchmarks.producer", kind, self.order(_WARM_UP, f"warm-{kind}")) as actor:
                actor.cue()
                actor.report()
        self._events = 0
        self.wait_for_events(2 * _WARM_UP)
        self._wait_until_finished(2 * _WARM_UP)
        self._events = 2 * _WARM_UP

    def order(self, count: int, tag: str, rate: float | None = None) -> str:
        """Return the order for a producer."""
        return order(self._session, count, tag, rate, by_conversation=self._session.options.by_conversation)

    @contextmanager
    def held(self, name: str) -> Iterator[None]:
        """Stop the processes whose names begin with this, as long as the block lasts."""
        with suspended(child.pid for child in self._children if child.name.startswith(name)):
            yield

    def wait_for_events(self, count: int, look: Callable[[], None] = lambda: None) -> float:
        """Wait for `count` events; return the last one's time by Redis's clock. Raises Incomplete."""
        stream = self._session.settings.events_stream
        deadline = time.monotonic() + 120 + count / 50
        while (found := int(self._session.redis.xlen(stream)) - self._events) < count:
            if time.monotonic() > deadline:
                raise Incomplete(f"{found} of {count} events; {self._counts()}")
            self._check_alive()
            time.sleep(_LOOK_SECONDS)
            look()
        last: Any = self._session.redis.xrevrange(stream, count=1)
        return int(last[0][0].split(b"-")[0]) / 1000

    def check(self, count: int) -> float:
        """Wait until each request has one snapshot and its event is out; return the seconds that it took."""
        began = time.monotonic()
        self._wait_until_finished(count + self._events)
        found = self._session.database[self._session.settings.snapshots_collection].count_documents({})
        if found != count + self._events:
            raise Incomplete(f"{found} snapshots of {count + self._events} requests")
        return time.monotonic() - began

    def accepted_first(self) -> float:
        """Return when the first request after the warm-up was accepted, in epoch seconds."""
        ledger = self._session.database[self._session.settings.requests_collection]
        found = ledger.find_one({"requestId": {"$not": {"$regex": "^warm-"}}}, sort=[("acceptedAt", 1)])
        if found is None:
            raise Incomplete("no request was accepted")
        moment: float = found["acceptedAt"].timestamp()
        return moment

    def meters(self, **others: int) -> Meters:
        """Return meters of our processes and the `others`, by name."""
        return Meters(self._session, self.processes | others)

    def _wait_until_finished(self, count: int) -> None:
        ledger = self._session.database[self._session.settings.requests_collection]
        deadline = time.monotonic() + _FINISH_SECONDS
        outbox = self._session.database[self._session.settings.outbox_collection]
        while (
            ledger.count_documents({"status": COMPLETED, "unsent": {"$exists": False}}) < count
            or outbox.find_one() is not None
        ):
            if time.monotonic() > deadline:
                raise Incomplete(f"not all of {count} requests are finished; {self._counts()}")
            time.sleep(0.02)

    def _counts(self) -> str:
        ledger = self._session.database[self._session.settings.requests_collection]
        groups = ledger.aggregate([{"$group": {"_id": "$status", "count": {"$sum": 1}}}])
        return f"ledger: { ({each['_id']: each['count'] for each in groups}) }"

    def _check_alive(self) -> None:
        for child in self._children:
            if not child.running:
                raise Incomplete(f"{child.name} ended: {child.output()[-400:]}")


@contextmanager
def suspended(pids: Iterable[int]) -> Iterator[None]:
    """Stop these processes and their descendants as long as the block lasts."""
    stopped = [each for pid in pids for each in tree(pid)]
    for process in stopped:
        process.suspend()
    try:
        yield
    finally:
        for process in stopped:
            with suppress(psutil.NoSuchProcess):
                process.resume()


def order(
    session: Session, count: int, tag: str, rate: float | None = None, *, by_conversation: bool = False, **more: Any
) -> str:
    """Return the order for a child process, as JSON."""
    fields = {"count": count, "contacts": session.options.amounts.contacts, "tag": tag, "rate": rate}
    return json.dumps(fields | {"by_conversation": by_conversation} | more)


@contextmanager
def pipeline(session: Session) -> Iterator[Pipeline]:
    """Start all our processes on a cleared database, and warm them up."""
    session.clear()
    with running(session) as made:
        made.warm_up()
        yield made


@contextmanager
def running(session: Session) -> Iterator[Pipeline]:
    """Start all our processes on the database as it is."""
    with TemporaryDirectory(dir=session.folder) as folder, ExitStack() as stack:
        children = processes(Path(folder), session.environment)
        for child in children:
            stack.callback(child.kill)
            child.start()
        for child in children:
            child.wait_until_ready(_START_SECONDS)
        yield Pipeline(session, children)
