"""Neighbours: where single requests pile up, the run of one takes those behind it along, as a chunk.

A claim is a key in Redis that lives as long as a run may take. It only saves work: two runs that have the same
request are told apart by the transaction that decides, and what a run claimed and did not do, because it died, is
called again by the sweep, whose patience is longer than a claim's life.
"""

from collections.abc import Iterable, Sequence
from datetime import timedelta

import pymongo
from bson import ObjectId

from worker.connections import Connections, broker_errors, store_errors
from worker.errors import TransientError
from worker.ledger import OPEN
from worker.log import get_logger
from worker.service import Service
from worker.wakeups import INTERACTIVE

log = get_logger(__name__)

_FEW = 3
"""Messages that may wait before a run looks for company."""
_LOOK_SECONDS = 1.0


class Claims:
    """Which requests a run has taken. All methods raise BrokerUnavailable."""

    def __init__(self, connections: Connections, life: timedelta) -> None:
        self._connections = connections
        self._life = round(life.total_seconds() * 1000)

    def take_one(self, key: ObjectId) -> tuple[bool, int]:
        """Whether no one else has it, and how many messages wait behind it: one round trip."""
        with broker_errors(), self._connections.redis.pipeline(transaction=False) as pipeline:
            pipeline.set(_claim(key), b"", nx=True, px=self._life)
            pipeline.llen(INTERACTIVE)
            taken, waiting = pipeline.execute()
        return bool(taken), int(waiting)

    def take(self, keys: Iterable[ObjectId], most: int) -> list[ObjectId]:
        """Up to `most` of these, the first that no one else has."""
        wanted = list(keys)
        taken: list[ObjectId] = []
        while wanted and len(taken) < most:
            some, wanted = wanted[: most - len(taken)], wanted[most - len(taken) :]
            with broker_errors(), self._connections.redis.pipeline(transaction=False) as pipeline:
                for key in some:
                    pipeline.set(_claim(key), b"", nx=True, px=self._life)
                taken += [key for key, mine in zip(some, pipeline.execute(), strict=True) if mine]
        return taken


def with_neighbours(service: Service, key: ObjectId) -> Sequence[ObjectId]:
    """The requests to run for a single message that names `key`: none where another run has it already."""
    claims = Claims(service.connections, service.settings.run_deadline)
    try:
        mine, waiting = claims.take_one(key)
        if not mine:
            return []
        if waiting <= _FEW:
            return [key]
        most = min(waiting, service.settings.chunk_size)
        return [key, *claims.take((each for each in _waiting(service, 2 * most) if each != key), most - 1)]
    except TransientError as error:
        log.info("run_alone", reason=error.message)
        return [key]


def _waiting(service: Service, most: int) -> list[ObjectId]:
    """Those that have waited longest and can go together: who may have killed a worker cannot, nor who names messages.

    The first may be claimed by others.
    """
    condition = {**OPEN, "queue": INTERACTIVE, "enqueuedAt": {"$lte": service.clock.now()}}
    condition |= {"swept": None, "unended": {"$in": [None, 0]}, "messageIds": None}
    with store_errors(), pymongo.timeout(_LOOK_SECONDS):
        found = service.ledger.collection.find(condition, {"_id": 1}).sort("enqueuedAt", 1).limit(most)
        return [each["_id"] for each in found]


def _claim(key: ObjectId) -> str:
    return f"snapshots:claim:{key}"
