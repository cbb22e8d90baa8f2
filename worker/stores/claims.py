"""Claims: which single requests a run has taken, so that no other begins with them.

A claim is a key in Redis that lives a little longer than a run. It only saves work: two runs that have the same
request are told apart by the transaction that decides, and what a run claimed and did not do, because it died, is
called again by the sweep, which releases it.
"""

from collections.abc import Iterable, Sequence

from bson import ObjectId

from worker.stores.connections import Connections, broker_errors
from worker.stores.wakeups import INTERACTIVE

_OVER_SECONDS = 2
"""That a claim outlives the longest run."""
AHEAD_MS = 120_000
"""Of what is taken ahead of its message: that comes later, from behind a long queue, and is then told at once. If the
run dies, the sweep releases it, and counts it as one that may have killed a worker; no neighbour takes it before."""


class Claims:
    """All methods cost one round trip, and raise BrokerUnavailable."""

    def __init__(self, connections: Connections) -> None:
        self._redis = connections.redis
        self._life = round((connections.settings.run_deadline.total_seconds() + _OVER_SECONDS) * 1000)

    def take(self, keys: Sequence[ObjectId], life: int | None = None) -> tuple[list[ObjectId], int]:
        """Those that no one has, and how many messages wait in the queue. `life`: of the claims, in ms."""
        with broker_errors(), self._redis.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.set(_name(key), b"", nx=True, px=life or self._life)
            pipeline.llen(INTERACTIVE)
            *taken, waiting = pipeline.execute()
        return [key for key, mine in zip(keys, taken, strict=True) if mine], int(waiting)

    def release(self, keys: Iterable[ObjectId]) -> None:
        """They may be begun again."""
        if names := [_name(key) for key in keys]:
            with broker_errors():
                self._redis.unlink(*names)


def _name(key: ObjectId) -> str:
    return f"snapshots:claim:{key}"
