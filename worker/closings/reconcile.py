"""The reconcile accepts closings of the last 48 hours that have no request, because something was down at the time."""

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from bson import ObjectId

from worker.clock import milliseconds
from worker.closings.accept import Closings
from worker.closings.conversation import ID_FIELDS, has_object_ids, record_id
from worker.closings.results import ClosedConversation
from worker.log import get_logger
from worker.service import Service
from worker.source.ids import with_ids
from worker.stores.checkpoints import Checkpoints
from worker.stores.connections import Document, store_errors

log = get_logger(__name__)

WINDOW = timedelta(hours=48)
_NAME = "reconcile"
_BATCH = 500


@dataclass
class ReconcileResult:
    """Numbers of closings by what a reconcile did with them.

    `unresolved`: conversations that were reopened after they were read, or that cannot be accepted at all. `failed`:
    those that the next reconcile tries again.
    """

    seen: int = 0
    accepted: int = 0
    skipped: int = 0
    unresolved: int = 0
    failed: int = 0


class Reconcile:
    """Searches for missed closings. Any number may run at once, because a closing's request id makes it one request."""

    def __init__(self, service: Service, closings: Closings | None = None) -> None:
        self._service = service
        self._settings = service.settings
        self._fields = service.connections.fields.conversation
        self._closings = closings or Closings(service)
        self._checkpoints = Checkpoints(service.connections)

    def run_slice(self, budget: timedelta | None = None) -> ReconcileResult:
        """Reconcile the last 48 hours until `budget`, by default the run deadline, is used up.

        The next call continues where this one stopped. Raises TransientError.
        """
        stop_at = time.monotonic() + (self._settings.run_deadline if budget is None else budget).total_seconds()
        now = self._service.clock.now()
        oldest = now - WINDOW
        reached: datetime | None = self._checkpoints.get(_NAME).get("reached")
        since = max(oldest, reached) if reached else oldest
        result, reached = self._walk(since, now, stop_at)
        self._checkpoints.set(_NAME, {"reached": reached})
        return result

    def run_all(self, since: datetime | None = None) -> ReconcileResult:
        """Reconcile the last 48 hours, or everything since `since` if that is earlier. Raises TransientError."""
        now = self._service.clock.now()
        oldest = now - WINDOW
        return self._walk(min(oldest, since) if since else oldest, now, None)[0]

    def _walk(self, since: datetime, until: datetime, stop_at: float | None) -> tuple[ReconcileResult, datetime | None]:
        """Return the counts, and the `resolvedAt` to continue from, or None if all closings were checked."""
        result = ReconcileResult()
        resolved_at = self._fields["resolvedAt"]
        for batch in self._batches(_not_dated_between(resolved_at, since, until)):
            self._accept(batch, result)
        for batch in self._batches({resolved_at: {"$gte": since, "$lte": until}}):
            self._accept(batch, result)
            reached: datetime = batch[-1]["resolvedAt"]
            # Stop only after some progress: otherwise more closings in one millisecond than fit into a batch would stop
            # it forever.
            if stop_at and time.monotonic() > stop_at and reached > since and len(batch) == _BATCH:
                return result, reached
        return result, None

    def _batches(self, dated: Document) -> Iterator[list[Document]]:
        """Yield resolved conversations, earliest first, without those that an import has stored as resolved."""
        condition = {
            **dated,
            self._fields["isResolved"]: self._fields.may_be_resolved,
            "$expr": {"$ne": [self._fields.expression(name) for name in ("resolvedAt", "importedResolvedAt")]},
        }
        conversations = self._service.connections.database[self._settings.conversations_collection]
        ordered = conversations.find(condition, self._fields.projection(["organizationId", "resolvedAt"]))
        with store_errors(), ordered.sort(self._fields["resolvedAt"], 1).batch_size(_BATCH) as cursor:
            while found := list(islice(cursor, _BATCH)):
                yield [with_ids(document, *ID_FIELDS) for document in found]

    def _accept(self, batch: Sequence[Document], result: ReconcileResult) -> None:
        closings = [document for document in batch if has_object_ids(document)]
        result.seen += len(closings)
        missed = self._without_request(closings)
        checked = self._closings.recently_checked({key: each["organizationId"] for key, each in missed.items()})
        result.skipped += len(checked)
        unchecked = [document for key, document in missed.items() if key not in checked]
        if not unchecked:
            return
        tally = self._closings.submit([ClosedConversation(each["organizationId"], each["_id"]) for each in unchecked])
        result.accepted += tally.accepted
        result.skipped += len(tally.skipped)
        # Those that should be repeated are found again by the next reconcile: one must not stop all that come after it.
        again = tally.to_repeat()
        for closing, error in again:
            log.warning("closing_not_reconciled", conversation_id=str(closing.conversation_id), code=error.code)
        result.failed += len(again)
        result.unresolved += sum(1 for _ in tally.failures()) - len(again)

    def _without_request(self, batch: Sequence[Document]) -> dict[str, Document]:
        """Return the closings without a request, by the request id that each would have."""
        closings = {record_id(document): document for document in batch}
        if not closings:
            return {}
        by_organization: dict[ObjectId, list[str]] = defaultdict(list)
        for request_id, document in closings.items():
            by_organization[document["organizationId"]].append(request_id)
        branches = [{"organizationId": key, "requestId": {"$in": ids}} for key, ids in by_organization.items()]
        with store_errors():
            entries = self._service.ledger.collection.find({"$or": branches}, {"_id": 0, "requestId": 1})
            known = {entry["requestId"] for entry in entries}
        return {request_id: document for request_id, document in closings.items() if request_id not in known}


def _not_dated_between(field: str, since: datetime, until: datetime) -> Document:
    """Match conversations resolved in this period whose `resolvedAt` is not a BSON date. They are recorded as skipped.

    Text is compared as ISO 8601 of any offset, numbers as milliseconds or seconds. Each branch is a range of the index.
    """
    earliest, latest = milliseconds(since), milliseconds(until)
    day = timedelta(days=1)
    text = {"$gte": f"{since - day:%Y-%m-%d}", "$lt": f"{until + day + day:%Y-%m-%d}"}
    return {
        "$or": [
            {field: {"$gte": earliest, "$lte": latest}},
            {field: {"$gte": earliest / 1000, "$lte": latest / 1000}},
            {field: text},
        ]
    }
