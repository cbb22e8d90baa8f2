"""Batching: when single requests pile up in the queue, runs take them from the ledger in chunks, before their messages.

A run claims the waiting requests in Redis, so that their own messages find nothing left to do.
"""

import time
from collections.abc import Sequence
from itertools import islice

import pymongo
from bson import ObjectId

from worker.domain.ledger_entry import enqueued_in
from worker.errors import TransientError
from worker.log import get_logger
from worker.service import Service
from worker.stores.claims import Claims
from worker.stores.connections import store_errors
from worker.stores.wakeups import BULK, INTERACTIVE

log = get_logger(__name__)

SHORT_QUEUE = 3
"""Queue length up to which requests are not batched."""
BACKLOG = 20
"""Minimum number of requests in a run for which the queue counts as a backlog."""
_LOOKUP_SECONDS = 1.0
_LOOKUP_LIMIT = 4000
"""Maximum number of entries that one lookup reads, including those that other runs have claimed."""
PAUSE_SECONDS = 0.05
"""Pause after a lookup that found nothing."""


class Batching:
    """Batches requests of the interactive queue. One instance per process."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._claims = Claims(service.connections)
        self._chunk_size = service.settings.chunk_size
        self._next_lookup = 0.0
        """The earliest time of the next lookup, by the monotonic clock. While most messages in the queue name requests
        that are already done, not every message should cost a lookup."""

    def join(self, keys: Sequence[ObjectId]) -> list[ObjectId]:
        """Claim the requests of a message; return those to run, and more waiting requests if the queue is long.

        Requests that another run has claimed are left out. A request that has already failed in another run is
        returned, so that the task of this message ends as failed. If Redis is down, nothing is claimed and all requests
        of the message are returned.
        """
        try:
            mine, waiting = self._claims.claim_arrived(keys)
        except TransientError as error:
            log.info("batching_skipped", reason=error.message)
            return list(keys)
        if waiting > SHORT_QUEUE and (mine or time.monotonic() >= self._next_lookup):
            return mine + self._claim_waiting(self._chunk_size - len(mine))
        return mine

    def more(self) -> list[ObjectId]:
        """Claim and return the next chunk of waiting requests."""
        return self._claim_waiting(self._chunk_size)

    def report_failures(self, keys: Sequence[ObjectId]) -> None:
        """Report requests that were run before their own messages arrived and failed, so that Flower shows it.

        The task of a message that arrives later ends as failed by itself. For messages that arrived before the failure,
        whose tasks have ended as successful, one more message is published, whose task ends as failed. Raises
        BrokerUnavailable.
        """
        if late := self._claims.mark_failed(keys):
            self._service.publish(BULK, [[str(key) for key in late]], self._service.clock.now())

    def release(self, ids: Sequence[str]) -> None:
        """Release the claims on requests that messages of their own will try again."""
        self._claims.release(map(ObjectId, ids))

    def _claim_waiting(self, limit: int) -> list[ObjectId]:
        """Claim the oldest waiting requests that can share a chunk: neither suspects nor requests that name messages.

        The entries are read at majority, so that no request is claimed that a failover may still roll back.
        """
        condition = {**enqueued_in(INTERACTIVE), "unended": {"$in": [None, 0]}, "messageIds": None}
        claimed: list[ObjectId] = []
        try:
            condition["enqueuedAt"] = {"$lte": self._service.clock.now()}
            with store_errors(), pymongo.timeout(_LOOKUP_SECONDS):
                found = self._service.ledger.at_majority.find(condition, {"_id": 1}, batch_size=2 * self._chunk_size)
                keys = (entry["_id"] for entry in found.sort("enqueuedAt", 1).limit(_LOOKUP_LIMIT))
                # Other runs may have claimed the first ones, so one page may not be enough.
                while len(claimed) < limit and (page := list(islice(keys, limit - len(claimed)))):
                    claimed += self._claims.claim_ahead(page)
        except TransientError as error:
            log.info("batching_cut_short", claimed=len(claimed), reason=error.message)
        if not claimed:
            self._next_lookup = time.monotonic() + PAUSE_SECONDS
        return claimed
