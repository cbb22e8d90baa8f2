"""Neighbours: where single requests pile up, the run of one takes those behind it along, as a chunk.

A claim is a key in Redis that lives as long as a run may take. It only saves work: two runs that have the same
request are told apart by the transaction that decides, and what a run claimed and did not do, because it died, is
called again by the sweep, whose patience is longer than a claim's life.
"""

import time
from collections.abc import Sequence

import pymongo
from bson import ObjectId

from worker.connections import broker_errors, store_errors
from worker.errors import TransientError
from worker.ledger import OPEN
from worker.log import get_logger
from worker.service import Service
from worker.wakeups import INTERACTIVE

log = get_logger(__name__)

_FEW = 3
"""Messages that may wait before a run looks for company."""
_LOOK_SECONDS = 1.0
"""The longest that a look into the ledger may take."""
_PAUSE_SECONDS = 0.05
"""After a look in vain."""


class Neighbours:
    """The requests that wait in the queue where someone waits, taken in chunks by one task."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._redis = service.connections.redis
        self._life = round(service.settings.run_deadline.total_seconds() * 1000)
        self._most = service.settings.chunk_size
        self._look_at = 0.0
        """Monotonic. Most messages of a queue whose requests are done already should cost no look into the ledger."""

    def join(self, keys: Sequence[ObjectId]) -> list[ObjectId]:
        """Those of a message's requests that no other run has, and with them such that wait in a long queue."""
        try:
            mine, waiting = self._claim(keys)
            look = waiting > _FEW and (mine or time.monotonic() >= self._look_at)
            return mine + self._waiting(self._most - len(mine)) if look else mine
        except TransientError as error:
            log.info("run_alone", reason=error.message)
            return list(keys)

    def more(self) -> list[ObjectId]:
        """The next that wait, if there are enough for a chunk."""
        try:
            return self._waiting(self._most)
        except TransientError as error:
            log.info("left_to_others", reason=error.message)
            return []

    def _waiting(self, most: int) -> list[ObjectId]:
        """The oldest that can go together and that no one has: who may have killed a worker cannot, nor who names
        messages. Looks at some more, since the first may be others'."""
        condition = {**OPEN, "queue": INTERACTIVE, "enqueuedAt": {"$lte": self._service.clock.now()}}
        condition |= {"swept": None, "unended": {"$in": [None, 0]}, "messageIds": None}
        with store_errors(), pymongo.timeout(_LOOK_SECONDS):
            found = self._service.ledger.collection.find(condition, {"_id": 1}).sort("enqueuedAt", 1)
            keys = [each["_id"] for each in found.limit(most + self._most)]
        taken: list[ObjectId] = []
        while keys and len(taken) < most:
            some, keys = keys[: most - len(taken)], keys[most - len(taken) :]
            taken += self._claim(some)[0]
        if not taken:
            self._look_at = time.monotonic() + _PAUSE_SECONDS
        return taken

    def _claim(self, keys: Sequence[ObjectId]) -> tuple[list[ObjectId], int]:
        """Those that no one has, and how many messages wait: one round trip. Raises BrokerUnavailable."""
        with broker_errors(), self._redis.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.set(f"snapshots:claim:{key}", b"", nx=True, px=self._life)
            pipeline.llen(INTERACTIVE)
            *claimed, waiting = pipeline.execute()
        return [key for key, mine in zip(keys, claimed, strict=True) if mine], int(waiting)
