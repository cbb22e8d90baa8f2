"""Whose turn it is: work that is due every so often, and that any process may do.

By MongoDB's clock. A Celery message's `expires` would be by the sender's and the receiver's: where the workers'
clocks are a few seconds ahead of beat's, none of its messages would ever be run.
"""

from datetime import timedelta

from worker.service import Service
from worker.stores.checkpoints import State


def take_turn(service: Service, name: str, every: timedelta) -> bool:
    """Whether the last turn of this name began long enough ago, half of `every`, and this one is ours now.

    So messages that piled up while no worker ran cost one write each. Raises StoreUnavailable, StoreConflict.
    """
    now = service.clock.now()
    # One that lies ahead was by the clock of a primary of before: to wait for it may be to wait for long.
    due = {"begunAt": {"$not": {"$gt": now - every / 2, "$lte": now + every}}}
    return State(service.connections).set(f"turn:{name}", {"begunAt": now}, expected=due)
