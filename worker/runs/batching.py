"""Neighbours: where single requests pile up, runs take them from the ledger in chunks, ahead of their messages."""

import time
from collections.abc import Sequence
from itertools import islice

import pymongo
from bson import ObjectId

from worker.errors import TransientError
from worker.log import get_logger
from worker.service import Service
from worker.stores.claims import AHEAD_MS, Claims
from worker.stores.connections import store_errors
from worker.stores.ledger import OPEN
from worker.stores.wakeups import INTERACTIVE

log = get_logger(__name__)

_FEW = 3
"""Messages that may wait before a run looks for company."""
_LOOK_SECONDS = 1.0
"""The longest that a look into the ledger may take."""
_SEEN = 4000
"""Requests that a look sees at most, others' among them."""
_PAUSE_SECONDS = 0.05
"""After a look in vain."""


class Neighbours:
    """The requests that wait in the queue where someone waits. One a process."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._claims = Claims(service.connections)
        self._most = service.settings.chunk_size
        self._look_at = 0.0
        """Monotonic. Most messages of a queue whose requests are done already should cost no look into the ledger."""

    def join(self, keys: Sequence[ObjectId]) -> list[ObjectId]:
        """Those of a message's requests that no other run has, and with them such that wait in a long queue."""
        try:
            mine, waiting = self._claims.take(keys)
        except TransientError as error:
            log.info("run_alone", reason=error.message)
            return list(keys)
        look = waiting > _FEW and (mine or time.monotonic() >= self._look_at)
        return mine + self._waiting(self._most - len(mine)) if look else mine

    def more(self) -> list[ObjectId]:
        """The next that wait."""
        return self._waiting(self._most)

    def release(self, ids: Sequence[str]) -> None:
        """They are to be tried again by a message of their own."""
        self._claims.release(map(ObjectId, ids))

    def _waiting(self, most: int) -> list[ObjectId]:
        """The oldest that can go together and that no one has: who may have killed a worker cannot, nor who names
        messages. At majority, as the run loads them: what it did not see yet would be claimed and not done."""
        condition = {**OPEN, "queue": INTERACTIVE, "swept": None, "unended": {"$in": [None, 0]}, "messageIds": None}
        taken: list[ObjectId] = []
        try:
            condition["enqueuedAt"] = {"$lte": self._service.clock.now()}
            with store_errors(), pymongo.timeout(_LOOK_SECONDS):
                found = self._service.ledger.at_majority.find(condition, {"_id": 1}, batch_size=2 * self._most)
                keys = (each["_id"] for each in found.sort("enqueuedAt", 1).limit(_SEEN))
                # The first may be others'.
                while len(taken) < most and (page := list(islice(keys, most - len(taken)))):
                    taken += self._claims.take(page, AHEAD_MS)[0]
        except TransientError as error:
            log.info("left_to_others", reason=error.message)  # all but those that are taken already
        if not taken:
            self._look_at = time.monotonic() + _PAUSE_SECONDS
        return taken
