"""Retention: strips entries that finished long ago to their key and outcome."""

from datetime import datetime

from worker.clock import EPOCH
from worker.domain.ledger_entry import NOT_STRIPPED, SENT, UNSENT
from worker.service import Service
from worker.stores.checkpoints import Checkpoints
from worker.stores.connections import Document, store_errors
from worker.sweep.budget import Budget

_NAME = "retention"
_BATCH = 500
_SECONDS = 0.2
"""The time that retention may take in one sweep. The next sweep continues."""
_KEPT = (
    *("organizationId", "requestId", "bodyHash", "status", "round", "snapshotId", "finishedAt"),
    *("deletedAt", "unchanged"),  # without them the identity would count snapshots that do not exist
)


class Retention:
    """Strips ledger entries. No entry is ever removed, so a repeated request is always recognized."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._checkpoints = Checkpoints(service.connections)

    def __call__(self, budget: Budget | None = None) -> int:
        """Strip entries, beginning where the last call stopped; return how many.

        Raises StoreUnavailable, StoreConflict.
        """
        before = self._service.clock.now() - self._service.settings.ledger_retention
        _, unsent_since = self._service.ledger.outbox.totals()
        before = min(before, unsent_since or before)
        since = self._checkpoints.get(_NAME).get("strippedTo", EPOCH)
        share = budget.share(_SECONDS) if budget else Budget(_SECONDS)
        stripped = 0
        while True:
            count, since = self.strip(since, before, _BATCH)
            stripped += count
            if count < _BATCH or share.is_over:
                break
        self._checkpoints.set(_NAME, {"strippedTo": since})
        return stripped

    def strip(self, since: datetime, before: datetime, limit: int) -> tuple[int, datetime]:
        """Strip the oldest entries that finished from `since` to `before`; return how many, and where to continue."""
        ledger = self._service.ledger.collection
        window: Document = {"finishedAt": {"$gte": since, "$lt": before}}
        condition = {**SENT, **window, **NOT_STRIPPED}
        with store_errors():
            # Read first: an entry whose event is emitted in the meantime is then either in the batch, or holds the time
            # back.
            unsent = ledger.find_one({**UNSENT, **window}, {"finishedAt": 1}, sort=[("finishedAt", 1)])
            batch = list(ledger.find(condition, {"finishedAt": 1}).sort("finishedAt", 1).limit(limit))
            if batch:
                ids = {"_id": {"$in": [entry["_id"] for entry in batch]}}
                # The condition is checked again, because an entry may have been redriven in the meantime.
                ledger.update_many({**ids, **condition}, [{"$project": dict.fromkeys(_KEPT, 1)}])
        reached = batch[-1]["finishedAt"] if len(batch) == limit else before
        return len(batch), min(reached, unsent["finishedAt"]) if unsent else reached
