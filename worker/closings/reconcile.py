"""The reconcile: closings of the last 48 hours that have no request, whatever was down when they happened."""

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from bson import ObjectId

from worker.closings.accept import Closing, Closings, LeftOut, closing_id
from worker.errors import NotResolvedYet, TransientError, Unexpected
from worker.log import get_logger
from worker.service import Receipt, Service
from worker.stores.bisect import in_halves
from worker.stores.checkpoints import State
from worker.stores.connections import Document, store_errors
from worker.telemetry.counters import LEFT_OUT

log = get_logger(__name__)

WINDOW = timedelta(hours=48)
_NAME = "reconcile"
_BATCH = 500


@dataclass
class Reconciled:
    """What one reconcile did: counts of closings."""

    seen: int = 0
    accepted: int = 0
    left_out: int = 0
    not_resolved: int = 0
    """Opened again since they were read, or not to be accepted at all."""


class Reconcile:
    """Any number may run at once: a closing's request id makes it one request."""

    def __init__(self, service: Service, closings: Closings | None = None) -> None:
        self._service = service
        self._settings = service.settings
        self._closings = closings or Closings(service)
        self._state = State(service.connections)

    def in_slices(self) -> Reconciled:
        """The last 48 hours, for a run deadline at most: the next goes on where this one stopped.

        Raises TransientError.
        """
        now = self._service.clock.now()
        oldest = now - WINDOW
        reached: datetime | None = self._state.get(_NAME).get("reached")
        since = max(oldest, reached) if reached else oldest
        done, reached = self._walk(since, now, time.monotonic() + self._settings.run_deadline.total_seconds())
        self._state.set(_NAME, {"reached": reached})
        return done

    def everything(self, since: datetime | None = None) -> Reconciled:
        """All of the last 48 hours, or since then if that is earlier. Raises TransientError."""
        now = self._service.clock.now()
        oldest = now - WINDOW
        return self._walk(min(oldest, since) if since else oldest, now, None)[0]

    def _walk(self, since: datetime, until: datetime, stop_at: float | None) -> tuple[Reconciled, datetime | None]:
        """What it did, and how far it came; None: to the end."""
        done = Reconciled()
        for batch in self._batches(since, until):
            done.seen += len(batch)
            self._take(batch, done)
            reached: datetime = batch[-1]["resolvedAt"]
            # Beyond where it began, or very many closings of one millisecond would hold it there for ever.
            if stop_at and time.monotonic() > stop_at and reached > since and len(batch) == _BATCH:
                return done, reached
        return done, None

    def _batches(self, since: datetime, until: datetime) -> Iterator[list[Document]]:
        """Resolved conversations, the earliest first. An import is no closing: it notes the date that it brought."""
        condition = {
            "resolvedAt": {"$gte": since, "$lte": until},
            "isResolved": True,
            "_id": {"$type": "objectId"},
            "organizationId": {"$type": "objectId"},
            "$expr": {"$ne": ["$resolvedAt", "$importedResolvedAt"]},
        }
        conversations = self._service.connections.database[self._settings.conversations_collection]
        fields = {"organizationId": 1, "resolvedAt": 1}
        with store_errors(), conversations.find(condition, fields).sort("resolvedAt", 1).batch_size(_BATCH) as cursor:
            while batch := list(islice(cursor, _BATCH)):
                yield batch

    def _take(self, batch: Sequence[Document], done: Reconciled) -> None:
        missed = self._without_request(batch)
        if not missed:
            return
        closings = [Closing(each["organizationId"], each["_id"]) for each in missed]
        results = in_halves(self._closings.accept, closings, self._service.connections)
        self._service.enqueue([each for each in results if isinstance(each, Receipt)])
        for result in results:
            match result:
                case Receipt():
                    done.accepted += result.created
                case LeftOut():
                    done.left_out += 1
                    if result.first:
                        LEFT_OUT.labels(result.reason).inc()
                case NotResolvedYet() | Unexpected():
                    done.not_resolved += 1
                case TransientError():
                    raise result
                case _:
                    done.not_resolved += 1

    def _without_request(self, batch: Sequence[Document]) -> list[Document]:
        names = {closing_id(each["_id"], each["resolvedAt"]): each for each in batch}
        by_organization: dict[ObjectId, list[str]] = defaultdict(list)
        for name, each in names.items():
            by_organization[each["organizationId"]].append(name)
        keys = [{"organizationId": key, "requestId": {"$in": found}} for key, found in by_organization.items()]
        with store_errors():
            entries = self._service.ledger.collection.find({"$or": keys}, {"_id": 0, "requestId": 1})
            known = {each["requestId"] for each in entries}
        return [each for name, each in names.items() if name not in known]
