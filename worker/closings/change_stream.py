"""Watches the change stream of `conversations`, so that every closing is noticed, regardless of which program wrote it.

Every listener may watch, because a closing's request id makes it one request. Changes are read ahead, and organizations
take turns. A listener stores its resume token once all earlier changes are durable in the ledger, and overwrites those
of other listeners, because an older token only repeats work. If the token has fallen off the oplog, a new stream is
opened first, and then a reconcile finds the gap.
https://www.mongodb.com/docs/manual/changeStreams/
"""

import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from typing import Any

import pymongo
from bson import ObjectId
from pymongo.change_stream import CollectionChangeStream
from pymongo.errors import OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern

from worker.closings.accept import Closings
from worker.closings.backlog import ChangesBacklog, Position
from worker.closings.reconcile import Reconcile
from worker.closings.results import ClosedConversation, ClosingReport
from worker.domain.retries import backoff
from worker.domain.source_fields import ConversationFields
from worker.errors import NotResolvedYet, SnapshotError, StoreConflict, StoreUnavailable, TransientError
from worker.log import get_logger
from worker.service import Service
from worker.source.ids import read_id
from worker.stores.checkpoints import Checkpoints
from worker.stores.connections import Document, store_errors
from worker.telemetry.counters import IntakeCounts

log = get_logger(__name__)

_NAME = "closings"
_WAIT_MS = 100
"""Maximum time for which MongoDB waits for the next change. A backlog of closings is processed after that."""
_ANSWER_SECONDS, _OPEN_SECONDS, _CLOSE_SECONDS = 5.0, 120.0, 2.0
"""How long MongoDB may take to answer, to find the resume token in its oplog, and to close the stream.

Without these limits, a read from a silent connection ends only when the kernel gives up, after 15 minutes.
"""
_BATCH = 500
_ATTEMPTS = 5
"""How often a closing is tried in the order of the stream."""
_READ_SECONDS = 1.0
"""How long changes are read before some of them are accepted."""
_ACCEPT_SECONDS, _SHORT_ACCEPT_SECONDS = 0.8, 0.3
"""How long closings are accepted before the stream is read again. The shorter time applies if there is more to read."""
_IDLE_SECONDS = 10.0
"""How often the token is stored while nothing is closed, so that it does not fall off the oplog."""


def closings_pipeline(fields: ConversationFields) -> list[Document]:
    """Return the aggregation stages that match changes which may be closings.

    An update may be one if `isResolved` became true or `resolvedAt` changed. An insert or replacement may be one unless
    it comes from an import, which repeats its `resolvedAt` in `importedResolvedAt`. Values of wrong types match too, so
    that they are recorded as skipped.
    """
    resolved = fields["isResolved"]
    dates = [f"$fullDocument.{fields[name]}" for name in ("resolvedAt", "importedResolvedAt")]
    changes: list[Document] = [
        _updated(resolved, fields.may_be_resolved),
        _updated(fields["resolvedAt"], {"$exists": True, "$ne": None}),
        {
            "operationType": {"$in": ["insert", "replace"]},
            f"fullDocument.{resolved}": fields.may_be_resolved,
            "$expr": {"$ne": dates},
        },
    ]
    return [{"$match": {"$or": changes}}, {"$project": {"documentKey": 1, "clusterTime": 1}}]


def _updated(path: str, condition: Document) -> Document:
    """Return the condition for updates that set a field.

    An update of a nested field is reported under its whole path as one name, or under the name of a level above it. No
    filter can name the former, so every such update matches; a conversation that is not resolved is not accepted later.
    """
    if "." not in path:
        return {"operationType": "update", f"updateDescription.updatedFields.{path}": condition}
    levels = path.split(".")
    names = [".".join(levels[:count]) for count in range(1, len(levels) + 1)]
    updated = {"$map": {"input": {"$objectToArray": "$updateDescription.updatedFields"}, "in": "$$this.k"}}
    return {"operationType": "update", "$expr": {"$ne": [{"$setIntersection": [updated, {"$literal": names}]}, []]}}


class PositionLost(SnapshotError):
    """The change stream cannot resume: the oplog does not reach back to its token, or the collection was dropped."""

    code = "position_lost"


class ClosingsWatch:
    """Submits the closings that MongoDB's change stream reports. Runs in a thread of the listener's process.

    It continues after outages, and from the stored position after a restart.
    """

    def __init__(self, service: Service, closings: Closings | None = None) -> None:
        self._service = service
        self._closings = closings or Closings(service, IntakeCounts())
        self._checkpoints = Checkpoints(service.connections)
        self._stored_at = 0.0
        self._lost = False
        self._failures = 0
        self._attempts: dict[ObjectId, int] = {}
        """How often the closings that failed last have failed."""

    def run(self, stop: threading.Event) -> None:
        """Watch until `stop` is set. Continues after any outage."""
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
        with pymongo.timeout(_ANSWER_SECONDS):
            known = self._checkpoints.get(_NAME)
        token = None if self._lost else known.get("token")
        with self._open(token) as stream:
            if token is None:
                self._catch_up(known.get("reached"), stream)
            log.info("closings_watch_started", resumed=token is not None)
            backlog = ChangesBacklog()
            while not stop.is_set():
                events, is_drained = self._read(stream, stop, backlog.room)
                if events:
                    end = Position(stream.resume_token, events[-1]["clusterTime"].as_datetime())
                    backlog.add(self._by_organization(_conversation_ids(events), alone=not backlog), end)
                    self._accept_turns(backlog, _ACCEPT_SECONDS if is_drained else _SHORT_ACCEPT_SECONDS, stop)
                elif backlog:
                    self._accept_turns(backlog, _ACCEPT_SECONDS, stop)
                elif time.monotonic() - self._stored_at > _IDLE_SECONDS:
                    self._store_token(stream.resume_token, self._service.clock.now())
                self._failures = 0

    # --- the stream -----------------------------------------------------------------------------------

    @contextmanager
    def _open(self, token: Mapping[str, Any] | None) -> Iterator[CollectionChangeStream[Document]]:
        """Open the stream after the token, or from now on if it is None.

        Raises PositionLost if it cannot resume there.
        """
        settings = self._service.settings
        # MongoDB refuses a change stream with another read concern, which the URL may name (`readConcernLevel`).
        conversations = self._service.connections.database.get_collection(
            settings.conversations_collection, read_concern=ReadConcern("majority")
        )
        with _stream_errors(resuming=token is not None), pymongo.timeout(_OPEN_SECONDS):
            pipeline = closings_pipeline(self._service.connections.fields.conversation)
            stream = conversations.watch(pipeline, resume_after=token, max_await_time_ms=_WAIT_MS, batch_size=_BATCH)
        try:
            yield stream
        finally:
            with _ignore_errors(), pymongo.timeout(_CLOSE_SECONDS):
                stream.close()

    def _read(
        self, stream: CollectionChangeStream[Document], stop: threading.Event, limit: int
    ) -> tuple[list[Document], bool]:
        """Return up to `limit` of the available changes, and whether there were no more."""
        events: list[Document] = []
        is_drained = False
        until = time.monotonic() + _READ_SECONDS
        with _stream_errors(resuming=False), pymongo.timeout(_ANSWER_SECONDS):
            while not is_drained and len(events) < limit and time.monotonic() < until and not stop.is_set():
                event = stream.try_next()
                if event is None:
                    is_drained = True
                else:
                    events.append(event)
            if not stream.alive:
                raise PositionLost("The change stream has ended: the collection was dropped or renamed.")
        return events, is_drained

    def _store_token(self, token: Mapping[str, Any] | None, reached: datetime) -> None:
        """Store the token and the time it corresponds to. Everything before it must be durable in the ledger."""
        if token is not None:
            with pymongo.timeout(_ANSWER_SECONDS):
                self._checkpoints.set(_NAME, {"token": token, "reached": reached})
            self._stored_at = time.monotonic()

    # --- closings -------------------------------------------------------------------------------------

    def _catch_up(self, since: datetime | None, stream: CollectionChangeStream[Document]) -> None:
        """Reconcile while the stream is already open, so that no closing is missed, and then store its token."""
        now = self._service.clock.now()
        result = Reconcile(self._service, self._closings).run_all(since)
        log.info("closings_reconciled", **asdict(result))
        if result.failed and self._failures < _ATTEMPTS:
            raise StoreConflict(f"Closings that could not be accepted: {result.failed}. The reconcile is repeated.")
        self._store_token(stream.resume_token, now)
        self._lost = False

    def _by_organization(self, ids: Sequence[ObjectId], *, alone: bool) -> Iterator[tuple[Any, ObjectId]]:
        """Pair each conversation with its organization, or with None if all fit into one batch anyway."""
        found: dict[ObjectId, str] = {}
        if not alone or len(ids) > _BATCH:
            connections = self._service.connections
            conversations = connections.database[connections.settings.conversations_collection]
            path = connections.fields.conversation["organizationId"]
            with store_errors(), pymongo.timeout(_ANSWER_SECONDS):
                for each in conversations.find({"_id": {"$in": ids}}, {"organization": f"${path}"}):
                    found[each["_id"]] = str(each.get("organization"))
        return ((found.get(key), key) for key in ids)

    def _accept_turns(self, backlog: ChangesBacklog, seconds: float, stop: threading.Event) -> None:
        """Accept closings in turn for about `seconds`, and store the position up to which all are accepted."""
        until = time.monotonic() + seconds
        while not stop.is_set():
            if changes := backlog.take(_BATCH):
                self._accept([each.conversation for each in changes])
            if position := backlog.settle(changes):
                self._store_token(position.token, position.reached)
            if not backlog or time.monotonic() > until:
                return

    def _accept(self, changed: Sequence[ObjectId]) -> None:
        """Accept the conversations that are resolved now. A reopened one gets another change when it is closed again.

        Raises TransientError before the token is stored, so that the stream repeats the same changes.
        """
        left: Sequence[ClosingReport] = [ClosedConversation(None, key) for key in dict.fromkeys(changed)]
        while left:
            tally = self._closings.submit(left)
            log.info("closings_seen", changed=len(left), accepted=tally.accepted)
            again = tally.to_repeat()
            is_stuck = len(again) == len(left)
            if is_stuck:
                self._raise_unless_in_vain(again)
            for closing, error in tally.failures():
                level = log.debug if isinstance(error, NotResolvedYet) else log.warning
                level("closing_not_accepted", conversation_id=str(closing.conversation_id), code=error.code)
            # Without those that are done, one that is slow is found sooner.
            left = [] if is_stuck else [closing for closing, _ in again]

    def _raise_unless_in_vain(self, failed: Sequence[tuple[ClosingReport, TransientError]]) -> None:
        """Raise the first error, so that the stream repeats the closings, unless that was in vain before.

        One that fails time after time, such as one whose messages MongoDB cannot count, is left to the reconcile.
        """
        before, self._attempts = self._attempts, {}
        for closing, _ in failed:
            self._attempts[closing.conversation_id] = before.get(closing.conversation_id, 0) + 1
        for closing, error in failed:
            if self._attempts[closing.conversation_id] < _ATTEMPTS:
                raise error


def _conversation_ids(events: Iterable[Document]) -> list[ObjectId]:
    """Return the ids of the conversations, without those that are not ObjectIds, which no request can name."""
    keys = (read_id(event["documentKey"]["_id"]) for event in events)
    return [key for key in keys if isinstance(key, ObjectId)]


@contextmanager
def _stream_errors(*, resuming: bool) -> Iterator[None]:
    """Translate PyMongo's errors. Those that mean that the resume token is unusable become PositionLost.

    `resuming`: any refusal by the server becomes PositionLost, because a new stream and a reconcile miss nothing.
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
def _ignore_errors() -> Iterator[None]:
    """Ignore PyMongo's errors while a stream is closed whose server may be down."""
    try:
        yield
    except PyMongoError as error:
        log.debug("change_stream_not_closed", reason=type(error).__name__)
