"""Points at which a process can be made to die or to hang: before and after the steps of a request.

The product contains none of this. `chaos.launcher` wraps the product's methods before it runs a program. An armed point
is a file in a folder of the chaos run: the first process that reaches the point removes the file and does what it says,
`kill` or `hang SECONDS`.
"""

import functools
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis
from kombu.transport import virtual

from worker.celery_support.publisher import CeleryPublisher
from worker.service import Service
from worker.source.conversations import Conversations
from worker.stores.acceptance import Acceptance
from worker.stores.checkpoints import Checkpoints
from worker.stores.claims import Claims
from worker.stores.events import Events
from worker.stores.ledger import Ledger
from worker.stores.run_records import RunRecords
from worker.stores.snapshots import Snapshots

BEFORE, AFTER = "before", "after"

STEPS: dict[str, tuple[type[Any], str, str]] = {
    "submit-before": (Service, "submit", BEFORE),  # of these programs, only the task of a Celery producer calls it
    "accept-before": (Acceptance, "insert", BEFORE),
    "confirm-before": (Acceptance, "confirm", BEFORE),  # a worker is woken already
    "accept-after": (Acceptance, "insert", AFTER),
    "enqueue-before": (CeleryPublisher, "__call__", BEFORE),
    "enqueue-after": (CeleryPublisher, "__call__", AFTER),
    "claimed-after": (Claims, "claim_arrived", AFTER),
    "load-after": (Ledger, "load", AFTER),
    "fetch-before": (Conversations, "fetch", BEFORE),
    "decide-before": (Ledger, "decide", BEFORE),
    "decided-in-transaction": (Ledger, "decide", AFTER),
    "inserted-in-transaction": (Snapshots, "insert", AFTER),
    "emit-before": (Events, "emit", BEFORE),
    "emit-after": (Events, "emit", AFTER),
    "finish-after": (Ledger, "finish", AFTER),
    "acknowledge-before": (virtual.Channel, "basic_ack", BEFORE),
    "acknowledge-after": (virtual.Channel, "basic_ack", AFTER),
    "read-after": (redis.Redis, "xreadgroup", AFTER),
    "xack-before": (redis.Redis, "xack", BEFORE),
    "xack-after": (redis.Redis, "xack", AFTER),
    "recorded-after": (RunRecords, "begin", AFTER),
    "counted-after": (Ledger, "add_unended", AFTER),
    "state-after": (Checkpoints, "set", AFTER),
}
HALF_EMITTED = "half-emitted"
POINTS = (*STEPS, HALF_EMITTED)


class Points:
    """The folder of armed points."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def arm(self, point: str, action: str = "kill") -> Path:
        """Makes the next process that reaches the point do it; returns a file that is gone once that has happened."""
        self.folder.mkdir(exist_ok=True)
        path = self.folder / point
        draft = path.with_suffix(".draft")
        draft.write_text(action)
        draft.replace(path)
        return path

    def reach(self, point: str) -> None:
        """Called by a process at a point."""
        taken = self.folder / f"{point}.{os.getpid()}"
        try:
            (self.folder / point).rename(taken)
        except FileNotFoundError:
            return
        action, _, seconds = taken.read_text().partition(" ")
        if action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(float(seconds))


def install(folder: Path) -> None:
    """Wraps the product's methods in this process and those that it forks."""
    points = Points(folder)
    for point, (owner, name, when) in STEPS.items():
        setattr(owner, name, _wrapped(points, point, getattr(owner, name), when))
    emit = Events.emit

    def half(self: Events, entries: Any) -> None:
        entries = list(entries)
        if (points.folder / HALF_EMITTED).exists() and len(entries) > 1:
            emit(self, entries[: len(entries) // 2])
            points.reach(HALF_EMITTED)
        emit(self, entries)

    Events.emit = half  # type: ignore[method-assign]


def _wrapped(points: Points, point: str, method: Callable[..., Any], when: str) -> Callable[..., Any]:
    @functools.wraps(method)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if when == BEFORE:
            points.reach(point)
            return method(*args, **kwargs)
        result = method(*args, **kwargs)
        points.reach(point)
        return result

    return wrapper
