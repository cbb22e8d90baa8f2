"""Deliberate bugs, each of which the checker has to find. The launcher installs them for tests only."""

import uuid
from collections.abc import Callable
from typing import Any

from worker.celery_support.transport import QoS
from worker.domain.validation import DERIVED_PREFIXES
from worker.stores.acceptance import Acceptance
from worker.stores.events import Events
from worker.stores.ledger import Ledger
from worker.stores.snapshots import Snapshots
from worker.stores.tombstones import Lookup
from worker.sweep.sweep import Sweep, SweepReport


def emit_before_decide() -> None:
    """Emits the event within the transaction, before its commit."""
    decide, emit = Ledger.decide, Events.emit

    def decide_late(self: Ledger, *args: Any) -> Any:
        decided = decide(self, *args)
        emit(Events(self._connections), decided)
        return decided

    def nothing(self: Events, entries: Any) -> None:
        """Does nothing: the event is out already."""

    Ledger.decide = decide_late  # type: ignore[method-assign, assignment]
    Events.emit = nothing  # type: ignore[method-assign]


def clear_unsent_before_emit() -> None:
    """Removes `unsent`, or the document of the outbox, before the events are out."""
    emit = Events.emit

    def emit_late(self: Events, entries: Any) -> None:
        entries = list(entries)
        Ledger(self._connections).finish(entries)
        emit(self, entries)

    Events.emit = emit_late  # type: ignore[method-assign]


def insert_outside_transaction() -> None:
    """Inserts the snapshot outside of the transaction."""
    insert: Any = Snapshots.insert

    def insert_apart(self: Snapshots, documents: Any, session: Any) -> None:
        insert(self, documents, None)

    Snapshots.insert = insert_apart  # type: ignore[method-assign]


def random_request_id() -> None:
    """Gives a request without an id a random one instead of a derived one."""
    insert = Acceptance.insert

    def insert_random(self: Acceptance, entries: Any, until: float, wake: Any = None) -> Any:
        names = {}
        for entry in entries:
            if entry["requestId"].startswith(DERIVED_PREFIXES):
                names[entry["requestId"]] = entry["requestId"] = uuid.uuid4().hex
        return insert(self, entries, until, wake)

    Acceptance.insert = insert_random  # type: ignore[method-assign]


def no_sweep() -> None:
    """Makes the sweep do nothing."""
    Sweep.__call__ = lambda self, budget=None, begin_with=None: SweepReport()  # type: ignore[method-assign]


def accept_erased() -> None:
    """Takes nobody for erased."""
    Lookup.erased = lambda self, found: set()  # type: ignore[method-assign]


def acknowledge_lost_messages() -> None:
    """Acknowledges a message that should go back to its queue, as Celery does when a pool process is killed."""
    owner: Any = QoS
    reject = owner.reject

    def acknowledge(self: QoS, delivery_tag: Any, requeue: bool = False) -> None:
        reject(self, delivery_tag, requeue=False)

    owner.reject = acknowledge


BUGS: dict[str, Callable[[], None]] = {
    each.__name__: each
    for each in (
        emit_before_decide,
        clear_unsent_before_emit,
        insert_outside_transaction,
        random_request_id,
        no_sweep,
        accept_erased,
        acknowledge_lost_messages,
    )
}
