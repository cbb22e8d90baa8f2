"""The change stream on `conversations`: whatever resolves one is noticed, whoever wrote it.

Every listener may watch: the request id of a closing makes it one request. The resume token is stored only once
what came before it is durable in the ledger, and without regard to other listeners': one that goes back repeats.
Where the token has fallen off the oplog, a new stream is opened first, and then a reconcile finds what was missed.
https://www.mongodb.com/docs/manual/changeStreams/
"""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from bson import ObjectId
from pymongo.change_stream import CollectionChangeStream
from pymongo.errors import OperationFailure, PyMongoError

from worker.closings.accept import Closing, Closings, LeftOut
from worker.closings.reconcile import Reconcile
from worker.domain.retries import backoff
from worker.errors import NotResolvedYet, SnapshotError, StoreUnavailable, TransientError, Unexpected
from worker.log import get_logger
from worker.service import Receipt, Service
from worker.stores.bisect import in_halves
from worker.stores.checkpoints import State
from worker.stores.connections import Document, store_errors
from worker.telemetry.counters import LEFT_OUT

log = get_logger(__name__)

_NAME = "closings"
_WAIT_MS = 500
"""How long MongoDB waits for a change before it answers that there is none; a stop takes as long."""
_BATCH, _BATCH_SECONDS = 500, 1.0
_IDLE_SECONDS = 10.0
"""The token goes on although nothing was closed, so that it does not fall off the oplog: stored so often then."""

# Written for an update: `isResolved` became true, or a resolved conversation got another date. A document that comes
# whole (an insert, a replacement) is a closing unless an import brought it, which notes the date that it brought.
PIPELINE: list[Document] = [
    {
        "$match": {
            "$or": [
                {"operationType": "update", "updateDescription.updatedFields.isResolved": True},
                {"operationType": "update", "updateDescription.updatedFields.resolvedAt": {"$type": "date"}},
                {
                    "operationType": {"$in": ["insert", "replace"]},
                    "fullDocument.isResolved": True,
                    "$expr": {"$ne": ["$fullDocument.resolvedAt", "$fullDocument.importedResolvedAt"]},
                },
            ]
        }
    },
    {"$project": {"documentKey": 1, "clusterTime": 1}},
]


class PositionLost(SnapshotError):
    """The stream cannot go on where it was: the oplog does not reach so far back, or the collection was dropped."""

    code = "position_lost"


class ClosingsWatch:
    """Watches conversations, as a thread of the listener's process."""

    def __init__(self, service: Service, closings: Closings | None = None) -> None:
        self._service = service
        self._closings = closings or Closings(service)
        self._state = State(service.connections)
        self._stored_at = 0.0
        self._lost = False
        self._failures = 0

    def run(self, stop: threading.Event) -> None:
        """Watches until `stop` is set. Goes on by itself after any outage."""
        while not stop.is_set():
            try:
                self._watch(stop)
            except PositionLost as error:
                log.warning("closings_position_lost", reason=error.message)
                self._lost = True
                stop.wait(self._pause() if self._failures else 0)
                self._failures += 1
            except TransientError as error:
                if not self._failures:
                    log.warning("closings_watch_interrupted", code=error.code, reason=error.message)
                stop.wait(self._pause())
                self._failures += 1

    def _pause(self) -> float:
        return backoff(self._failures, self._service.settings).total_seconds()

    def _watch(self, stop: threading.Event) -> None:
        known = self._state.get(_NAME)
        token = None if self._lost else known.get("token")
        with self._open(token) as stream:
            if token is None:
                self._catch_up(known.get("reached"), stream)
            log.info("closings_watched", resumed=token is not None)
            while not stop.is_set():
                events = self._batch(stream, stop)
                if events:
                    self._accept([each["documentKey"]["_id"] for each in events if _has_object_id(each)])
                    self._remember(stream.resume_token, events[-1]["clusterTime"].as_datetime())
                elif time.monotonic() - self._stored_at > _IDLE_SECONDS:
                    self._remember(stream.resume_token, self._service.clock.now())
                self._failures = 0

    # --- the stream -----------------------------------------------------------------------------------

    @contextmanager
    def _open(self, token: Mapping[str, Any] | None) -> Iterator[CollectionChangeStream[Document]]:
        """A stream behind the token, or from now on. Raises PositionLost where it cannot go on there."""
        settings = self._service.settings
        conversations = self._service.connections.database[settings.conversations_collection]
        with _stream_errors(resuming=token is not None):
            stream = conversations.watch(
                list(PIPELINE), resume_after=token, max_await_time_ms=_WAIT_MS, batch_size=_BATCH
            )
        try:
            yield stream
        finally:
            with _ignored():
                stream.close()

    def _batch(self, stream: CollectionChangeStream[Document], stop: threading.Event) -> list[Document]:
        """Changes, as many as there are, or none after a while."""
        events: list[Document] = []
        until = time.monotonic() + _BATCH_SECONDS
        with _stream_errors(resuming=False):
            while len(events) < _BATCH and time.monotonic() < until and not stop.is_set():
                event = stream.try_next()
                if event is None:
                    break
                events.append(event)
            if not stream.alive:
                raise PositionLost("The change stream has ended: the collection was dropped or renamed.")
        return events

    def _remember(self, token: Mapping[str, Any] | None, reached: datetime) -> None:
        """Stores the token, and the time that it stands for; all before is durable in the ledger by now."""
        if token is not None:
            self._state.set(_NAME, {"token": token, "reached": reached})
            self._stored_at = time.monotonic()

    # --- what came ------------------------------------------------------------------------------------

    def _catch_up(self, since: datetime | None, stream: CollectionChangeStream[Document]) -> None:
        """With a stream open already, so that nothing falls in between; then only its token is stored."""
        now = self._service.clock.now()
        done = Reconcile(self._service, self._closings).everything(since)
        log.info("closings_reconciled", seen=done.seen, accepted=done.accepted, left_out=done.left_out)
        self._remember(stream.resume_token, now)
        self._lost = False

    def _accept(self, changed: Sequence[ObjectId]) -> None:
        """Accepts what is resolved now. Opened again meanwhile: passed over; the next closing is an event of its own.

        Raises TransientError, before the token is stored: the stream then gives the same once more.
        """
        closings = [Closing(None, each) for each in dict.fromkeys(changed)]
        results = in_halves(self._closings.accept, closings, self._service.connections)
        receipts = [each for each in results if isinstance(each, Receipt)]
        log.info("closings_seen", changed=len(changed), accepted=sum(each.created for each in receipts))
        self._service.enqueue(receipts)
        for closing, result in zip(closings, results, strict=True):
            if isinstance(result, TransientError) and not isinstance(result, NotResolvedYet | Unexpected):
                raise result
            if isinstance(result, LeftOut) and result.first:
                LEFT_OUT.labels(result.reason).inc()
            elif isinstance(result, SnapshotError):
                conversation = str(closing.conversation_id)
                level = log.debug if isinstance(result, NotResolvedYet) else log.warning
                level("closing_passed_over", conversation_id=conversation, code=result.code)


def _has_object_id(event: Document) -> bool:
    """What a conversation of the platform has; others could not be named by a request."""
    return isinstance(event["documentKey"]["_id"], ObjectId)


@contextmanager
def _stream_errors(*, resuming: bool) -> Iterator[None]:
    """PyMongo's errors made ours; those that say that the position is of no use become PositionLost.

    When resuming, whatever the server refuses is taken for that: a stream from now on, and a reconcile, cannot miss.
    """
    try:
        with store_errors():
            yield
    except TransientError as error:
        cause = error.__cause__
        refused = isinstance(cause, OperationFailure) and (resuming or cause.code in _HISTORY_LOST)
        if refused and not isinstance(error, StoreUnavailable):
            raise PositionLost(error.message) from error
        raise


_HISTORY_LOST = (286, 280, 260)
"""ChangeStreamHistoryLost, ChangeStreamFatalError, InvalidResumeToken.
https://github.com/mongodb/mongo/blob/r6.0.5/src/mongo/base/error_codes.yml"""


@contextmanager
def _ignored() -> Iterator[None]:
    """Closing a stream whose server is away."""
    try:
        yield
    except PyMongoError as error:
        log.debug("change_stream_not_closed", reason=type(error).__name__)
