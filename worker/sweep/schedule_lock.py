"""The schedule lock: of the processes that may do some periodic work, only one does it at a time.

It uses MongoDB's clock. A Celery message's `expires` would depend on the sender's and the receiver's clocks: if the
workers' clocks were a few seconds ahead of beat's, none of its messages would ever run.
"""

from datetime import timedelta

from worker.service import Service
from worker.stores.checkpoints import Checkpoints
from worker.stores.connections import Document

SWEEP = "sweep"
"""The name of the sweep's lock."""


def acquire_schedule_lock(
    service: Service, name: str, every: timedelta, lease: timedelta = timedelta(0)
) -> Document | None:
    """Acquire the lock for the periodic work `name`; return its previous state, or None if the work is not due.

    The work is due once half of `every` has passed since it last began, so each of the messages that piled up while no
    worker ran costs only one write. No other process can acquire the lock until it is released or `lease` has passed.
    Raises StoreUnavailable, StoreConflict.
    """
    now = service.clock.now()
    # A time far in the future was set by a former primary's clock, and waiting for it could take very long.
    due = {
        "begunAt": {"$not": {"$gt": now - every / 2, "$lte": now + every}},
        "leasedUntil": {"$not": {"$gt": now, "$lte": now + every + lease}},
    }
    changes = {"begunAt": now, "leasedUntil": now + lease}
    return Checkpoints(service.connections).swap(checkpoint_of(name), changes, expected=due)


def release_schedule_lock(service: Service, name: str, **state: object) -> None:
    """Release the lock and store `state` for its next holder. Raises StoreUnavailable, StoreConflict."""
    Checkpoints(service.connections).set(checkpoint_of(name), {"leasedUntil": None, **state})


def checkpoint_of(name: str) -> str:
    """Return the name of the checkpoint that holds the state of a lock.

    Its fields are `begunAt`, `leasedUntil` (None once it is released), and those given to `release_schedule_lock`.
    """
    return f"turn:{name}"
