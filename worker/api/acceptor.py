"""Accepts requests: many POSTs that come together share one check and one insert."""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import pymongo

from worker.api.batcher import Batcher
from worker.api.checks import Checks
from worker.errors import SnapshotError
from worker.service import Asked, Receipt, Service
from worker.stores.connections import store_errors
from worker.stores.ledger import Key

_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request on its way into the ledger. `repeatable`: the caller chose its id, so it may be there already."""

    asked: Asked
    repeatable: bool


class Accepting:
    """Awaited with a request; gives its receipt.

    Raises ContactNotFound, ConversationNotFound, MessagesNotFound (nothing is left behind), RequestIdConflict,
    Deleted, AcceptUnknown, StoreUnavailable, StoreConflict.
    """

    def __init__(self, service: Service, executor: Executor, pause: Callable[[], float]) -> None:
        self._service = service
        self._checks = Checks(service.connections)
        self._batch: Batcher[Wanted, Receipt] = Batcher(self._accept, executor, pause)

    async def __call__(self, wanted: Wanted) -> Receipt:
        return await self._batch(wanted)

    def _accept(self, batch: Sequence[Wanted]) -> list[Receipt | Exception]:
        with pymongo.timeout(_SECONDS):
            results: list[Receipt | SnapshotError | None] = list(self._faults(batch))
            good = [place for place, fault in enumerate(results) if fault is None]
            receipts = self._service.accept([batch[place].asked for place in good])
        for place, receipt in zip(good, receipts, strict=True):
            results[place] = receipt
        return [each for each in results if each is not None]

    def _faults(self, batch: Sequence[Wanted]) -> list[SnapshotError | None]:
        """A request of before stays the answer to its key, whatever became of its contact."""
        faults = self._checks([each.asked.request.body() for each in batch])
        doubtful = {
            (each.asked.request.organization_id, each.asked.request_id)
            for each, fault in zip(batch, faults, strict=True)
            if fault and each.repeatable
        }
        if not doubtful:
            return faults
        known = self._known(doubtful)
        return [
            None if (each.asked.request.organization_id, each.asked.request_id) in known else fault
            for each, fault in zip(batch, faults, strict=True)
        ]

    def _known(self, keys: set[Key]) -> set[Key]:
        conditions = [{"organizationId": organization, "requestId": name} for organization, name in keys]
        with store_errors():
            found = self._service.ledger.collection.find({"$or": conditions}, {"organizationId": 1, "requestId": 1})
            return {(each["organizationId"], each["requestId"]) for each in found}
