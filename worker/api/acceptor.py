"""Accepts requests: POSTs that arrive together share one check and one insert."""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor

import pymongo

from worker.api.batcher import Batcher
from worker.api.checks import RequestChecks
from worker.domain.ledger_entry import LedgerEntry
from worker.errors import SnapshotError
from worker.service import NewRequest, Receipt, Service
from worker.stores.acceptance import Wake
from worker.stores.connections import store_errors
from worker.stores.ledger import Key, key_of

_MAX_SECONDS = 5
_MANY_IDS, _MAX_LARGE = 40, 4
"""Requests that name more than 40 messages go into batches of their own, of up to 4 requests, because looking up so
many ids takes time for which other requests should not wait. An ordinary batch then looks up 20,000 at most, in one
read."""


class Acceptor:
    """Accepts requests in batches. Each call returns the receipt of its own request, whose worker is woken already.

    Raises ContactNotFound, ConversationNotFound, MessagesNotFound (nothing is left behind), RequestIdConflict,
    SnapshotDeleted, AcceptUnknown, StoreUnavailable, StoreConflict.
    """

    def __init__(self, service: Service, executor: Executor, pause: Callable[[], float], wake: Wake) -> None:
        """`wake` is called in a thread of the executor; see `Service.accept`."""
        self._service = service
        self._wake = wake
        self._check = RequestChecks(service.connections)
        self._batcher: Batcher[NewRequest, Receipt] = Batcher(self._accept, executor, pause)
        self._large_batcher: Batcher[NewRequest, Receipt] = Batcher(self._accept, executor, pause, _MAX_LARGE)

    async def __call__(self, request: NewRequest) -> Receipt:
        is_large = len(request.request.message_ids or ()) > _MANY_IDS
        return await (self._large_batcher if is_large else self._batcher)(request)

    def _accept(self, batch: Sequence[NewRequest]) -> Sequence[Receipt | Exception]:
        with pymongo.timeout(_MAX_SECONDS):
            return self._service.accept(batch, self._faults, self._wake)

    def _faults(self, entries: Sequence[LedgerEntry]) -> list[SnapshotError | None]:
        """Return each request's error, or None.

        A repeated key has no error, because it gets the answer to the first request.
        """
        faults = self._check(entries)
        faulty = [key_of(entry) for entry, fault in zip(entries, faults, strict=True) if fault]
        if not faulty:
            return faults
        known = self._known(faulty)
        return [None if key_of(entry) in known else fault for entry, fault in zip(entries, faults, strict=True)]

    def _known(self, keys: Sequence[Key]) -> set[Key]:
        conditions = [{"organizationId": organization, "requestId": request_id} for organization, request_id in keys]
        with store_errors():
            entries = self._service.ledger.collection.find({"$or": conditions}, {"organizationId": 1, "requestId": 1})
            return {(entry["organizationId"], entry["requestId"]) for entry in entries}
