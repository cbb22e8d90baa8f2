"""The schedule lock: periodic work that any process may do is begun by one of them at a time.

It uses MongoDB's clock. A Celery message's `expires` would depend on the sender's and the receiver's clocks: if the
workers' clocks were a few seconds ahead of beat's, none of its messages would ever run.
"""

from datetime import timedelta

from worker.service import Service
from worker.stores.checkpoints import Checkpoints
from worker.stores.connections import Document


def acquire_schedule_lock(
    service: Service, name: str, every: timedelta, lease: timedelta = timedelta(0)
) -> Document | None:
    """Begin the periodic work `name`; return the lock's previous state, or None if the work is not due.

    It is due half of `every` after it was last begun, so that messages that piled up while no worker ran cost one write
    each. Until it is released, or `lease` has passed, no other process begins it. Raises StoreUnavailable,
    StoreConflict.
    """
    now = service.clock.now()
    # A time far ahead was set by a former primary's clock: waiting for it could take very long.
    due = {
        "begunAt": {"$not": {"$gt": now - every / 2, "$lte": now + every}},
        "leasedUntil": {"$not": {"$gt": now, "$lte": now + every + lease}},
    }
    changes = {"begunAt": now, "leasedUntil": now + lease}
    return Checkpoints(service.connections).swap(_document(name), changes, expected=due)


def release_schedule_lock(service: Service, name: str, **state: object) -> None:
    """End the lease and keep `state` for the next holder. Raises StoreUnavailable, StoreConflict."""
    Checkpoints(service.connections).set(_document(name), {"leasedUntil": None, **state})


def _document(name: str) -> str:
    return f"turn:{name}"
