"""Retention: entries that finished long ago keep what recognises them, and nothing else."""

import time
from datetime import UTC, datetime

from worker.domain.requests import COMPLETED, FAILED
from worker.service import Service
from worker.stores.checkpoints import State
from worker.stores.connections import Document, store_errors

_NAME = "retention"
_FIRST = datetime(1970, 1, 1, tzinfo=UTC)
_BATCH = 500
_SECONDS = 0.2
"""Time that one sweep spends on it; the next goes on where it stopped, and there is no hurry."""
_KEPT = (
    *("organizationId", "requestId", "bodyHash", "status", "round", "snapshotId", "finishedAt"),
    *("deletedAt", "unchanged"),  # without them the identity would count snapshots that are not there
)


class Retention:
    """The part of the sweep that strips the ledger. It removes no entry: a repeated request is known for ever."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._state = State(service.connections)

    def __call__(self) -> int:
        """Goes on where the last one ended, so that what is stripped is not read again; how many entries were."""
        before = self._service.clock.now() - self._service.settings.ledger_retention
        since = self._state.get(_NAME).get("strippedTo", _FIRST)
        stop_at = time.monotonic() + _SECONDS
        stripped = 0
        while True:
            count, since = self.strip(since, before, _BATCH)
            stripped += count
            if count < _BATCH or time.monotonic() > stop_at:
                break
        self._state.set(_NAME, {"strippedTo": since})
        return stripped

    def strip(self, since: datetime, before: datetime, most: int) -> tuple[int, datetime]:
        """The oldest finished, sent entries of that time; how many, and the time before which none is left."""
        ledger = self._service.ledger.collection
        finished: Document = {"status": {"$in": [COMPLETED, FAILED]}, "finishedAt": {"$gte": since, "$lt": before}}
        condition = {**finished, "unsent": None, "acceptedAt": {"$exists": True}}
        with store_errors():
            # Looked for first: one that is sent meanwhile is then among those found, or holds the time back.
            unsent = ledger.find_one({**finished, "unsent": True}, {"finishedAt": 1}, sort=[("finishedAt", 1)])
            found = list(ledger.find(condition, {"finishedAt": 1}).sort("finishedAt", 1).limit(most))
            if found:
                ids = {"_id": {"$in": [each["_id"] for each in found]}}
                # Condition again: a redrive may have come in between.
                ledger.update_many({**ids, **condition}, [{"$project": dict.fromkeys(_KEPT, 1)}])
        reached = found[-1]["finishedAt"] if len(found) == most else before
        return len(found), min(reached, unsent["finishedAt"]) if unsent else reached
