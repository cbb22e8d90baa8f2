"""Deliberate bugs, each of which the checker has to find. The entry point installs them, for a test alone."""

import uuid
from collections.abc import Callable
from typing import Any

from worker.domain.validation import DERIVED_PREFIXES
from worker.stores.events import Events
from worker.stores.ledger import Ledger
from worker.stores.snapshots import Snapshots
from worker.sweep.sweep import Sweep, Swept


def emit_before_decide() -> None:
    """The event goes out within the transaction, before its commit."""
    decide, emit = Ledger.decide, Events.emit

    def decide_late(self: Ledger, *args: Any) -> Any:
        decided = decide(self, *args)
        emit(Events(self._connections), decided)
        return decided

    def nothing(self: Events, entries: Any) -> None:
        """It went out before."""

    Ledger.decide = decide_late  # type: ignore[method-assign, assignment]
    Events.emit = nothing  # type: ignore[method-assign]


def clear_unsent_before_emit() -> None:
    """The outbox is emptied before the event is out."""
    emit = Events.emit

    def emit_late(self: Events, entries: Any) -> None:
        entries = list(entries)
        Ledger(self._connections).finish(entries)
        emit(self, entries)

    Events.emit = emit_late  # type: ignore[method-assign]


def insert_outside_transaction() -> None:
    """The snapshot is inserted beside the transaction."""
    insert: Any = Snapshots.insert

    def insert_apart(self: Snapshots, documents: Any, session: Any) -> None:
        insert(self, documents, None)

    Snapshots.insert = insert_apart  # type: ignore[method-assign]


def random_request_id() -> None:
    """A request that names no id gets a random one instead of one that is derived."""
    insert = Ledger.insert

    def insert_random(self: Ledger, entries: Any) -> Any:
        names = {}
        for entry in entries:
            if entry["requestId"].startswith(DERIVED_PREFIXES):
                names[entry["requestId"]] = entry["requestId"] = uuid.uuid4().hex
        return insert(self, entries)

    Ledger.insert = insert_random  # type: ignore[method-assign]


def no_sweep() -> None:
    """The sweep does nothing."""
    Sweep.__call__ = lambda self: Swept()  # type: ignore[method-assign]


BUGS: dict[str, Callable[[], None]] = {
    each.__name__: each
    for each in (
        emit_before_decide,
        clear_unsent_before_emit,
        insert_outside_transaction,
        random_request_id,
        no_sweep,
    )
}
