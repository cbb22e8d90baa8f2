"""Reads snapshots as of a cluster time in MongoDB's history, and moves a selection to a later cluster time.

MongoDB keeps this history for `minSnapshotHistoryWindowInSeconds`, 5 minutes by default, and its oplog, which change
streams read, much longer.
"""

from collections.abc import Mapping
from typing import Any

from bson import ObjectId, Timestamp
from pymongo.change_stream import CollectionChangeStream
from pymongo.errors import OperationFailure
from pymongo.read_concern import ReadConcern

from worker.exports.selection import EDITABLE, NAIVE, Selected, Selection
from worker.jobs.slices import Slice
from worker.log import get_logger
from worker.service import Service
from worker.stores.connections import Document, store_errors
from worker.stores.mongo_errors import MAX_TIME_EXPIRED

log = get_logger(__name__)

PROJECTION = {**dict.fromkeys(("contactId", "contentHash", *EDITABLE), 1), "size": {"$bsonSize": "$$ROOT"}}
_SNAPSHOT_TOO_OLD = 239
_CHANGES, _EDITS = 100_000, 500
"""Maximum numbers of changes and of edits of selected snapshots to follow. With more, a selection starts again."""
_AT_ONCE = 500
_WAIT_MS = 100
"""Maximum time for which MongoDB waits for the next change."""


class ReadTooSlow(Exception):
    """A read has exceeded its time limit."""


class HistoryLost(Exception):
    """MongoDB no longer has the history at that cluster time, or the changes since then cannot be followed."""


class History:
    """Reads the snapshots that match a filter, as of a cluster time."""

    def __init__(self, service: Service, condition: Mapping[str, Any]) -> None:
        self._service = service
        self._condition = condition

    def now(self) -> Timestamp:
        """Return the cluster time of MongoDB's latest operation, for reads. Raises StoreUnavailable, StoreConflict."""
        with store_errors():
            at: Timestamp = self._service.connections.database.command("ping")["operationTime"]
        return at

    def read(
        self,
        at: Timestamp,
        projection: Document,
        count: int,
        which: Mapping[str, Any],
        seconds: float | None = None,
    ) -> list[Document]:
        """Read up to `count` snapshots that also match `which`, in order of `_id`, as of the cluster time `at`.

        `seconds`: MongoDB's time limit. Raises ReadTooSlow, HistoryLost, StoreUnavailable, StoreConflict.
        """
        command = {
            "filter": {"$and": [self._condition, which]},
            "projection": projection,
            "limit": count,
            "batchSize": count,
            **({"maxTimeMS": round(seconds * 1000)} if seconds else {}),
        }
        return self._find(at, command)

    def skip(self, at: Timestamp, organization: ObjectId, after: ObjectId, count: int) -> ObjectId | None:
        """Return the id that is `count` snapshots after `after`, ignoring the filter; None if there are fewer.

        It is found in the index alone. Raises HistoryLost, StoreUnavailable, StoreConflict.
        """
        which = {"organizationId": organization, "_id": {"$gt": after}}
        found = self._find(at, {"filter": which, "projection": {"_id": 1}, "skip": count - 1, "limit": 1})
        return found[0]["_id"] if found else None

    def _find(self, at: Timestamp, fields: Document) -> list[Document]:
        """Run a `find` in order of `_id` at the moment `at`. PyMongo's sessions cannot name a moment."""
        command = {
            "find": self._service.settings.snapshots_collection,
            "sort": {"_id": 1},
            "singleBatch": True,
            "readConcern": {"level": "snapshot", "atClusterTime": at},
            **fields,
        }
        with store_errors():
            try:
                answer = self._service.connections.database.command(command, codec_options=NAIVE)
            except OperationFailure as error:
                if error.code == _SNAPSHOT_TOO_OLD:
                    raise HistoryLost from error
                if error.code == MAX_TIME_EXPIRED and "maxTimeMS" in fields:
                    raise ReadTooSlow from error
                raise
        documents: list[Document] = answer["cursor"]["firstBatch"]
        return documents

    def move_on(self, job_slice: Slice, selection: Selection) -> bool:
        """Move an unfinished selection from the cluster time in the checkpoint to the current one.

        Fields that were edited since are read again. Deleted snapshots are noticed when they are written. Return False,
        with nothing changed, if that is not enough: other snapshots match the condition now, messages have changed, or
        the slice is over before all changes are read.

        Raises LeaseLost, StoreUnavailable, StoreConflict.
        """
        at, moment = self.now(), self._service.clock.now()
        try:
            changed = self._changed(job_slice, at)
            edited = self._edited(job_slice, selection, at, changed)
        except HistoryLost:
            return False
        job_slice.checkpoint |= {"at": at, "moment": moment}
        with self._service.connections.transaction() as session:
            for document, each in edited:
                selection.replace(document, each, session)
            job_slice.save(session)
        log.info("export_moment_moved", job=str(job_slice.job.id), changed=len(changed), edited=len(edited))
        return True

    def _changed(self, job_slice: Slice, until: Timestamp) -> list[ObjectId]:
        """Return the ids in the range of the selection that were inserted or changed since its moment.

        Raises HistoryLost if they cannot all be read, StoreUnavailable, StoreConflict.
        """
        since, last = job_slice.checkpoint["at"], job_slice.checkpoint["after"]
        written = {"operationType": {"$in": ["insert", "update", "replace"]}, "documentKey._id": {"$lte": last}}
        found: set[ObjectId] = set()
        with store_errors():
            try:
                end = self._token(until)
                with self._watch([{"$match": written}, {"$project": {"documentKey": 1}}], since) as stream:
                    while True:
                        if event := stream.try_next():
                            found.add(event["documentKey"]["_id"])
                        # MongoDB documents that tokens are ordered as the changes are.
                        if stream.resume_token and stream.resume_token["_data"] >= end:
                            return sorted(found)
                        if job_slice.is_over or len(found) > _CHANGES or not stream.alive:
                            raise HistoryLost
            except OperationFailure as error:  # above all, the oplog does not reach back to the moment
                raise HistoryLost from error

    def _watch(self, pipeline: list[Document], since: Timestamp) -> CollectionChangeStream[Document]:
        # MongoDB refuses a change stream with another read concern, which the URL may name (`readConcernLevel`).
        snapshots = self._service.connections.database.get_collection(
            self._service.settings.snapshots_collection, read_concern=ReadConcern("majority")
        )
        return snapshots.watch(pipeline, start_at_operation_time=since, max_await_time_ms=_WAIT_MS)

    def _token(self, at: Timestamp) -> str:
        """Return the part of a resume token that is ordered, of the moment `at` or shortly after it."""
        with self._watch([], at) as stream:
            while not stream.resume_token:
                stream.try_next()
            return str(stream.resume_token["_data"])

    def _edited(
        self, job_slice: Slice, selection: Selection, at: Timestamp, changed: list[ObjectId]
    ) -> list[tuple[ObjectId, Selected]]:
        """Return the selected snapshots whose fields differ at the moment `at`, with the documents that hold them.

        Raises HistoryLost if more than fields has changed, StoreUnavailable, StoreConflict.
        """
        edited: list[tuple[ObjectId, Selected]] = []
        for first in range(0, len(changed), _AT_ONCE):
            some = changed[first : first + _AT_ONCE]
            before = selection.find(some)
            after = {
                each["_id"]: Selected.of(each) for each in self.read(at, PROJECTION, _AT_ONCE, {"_id": {"$in": some}})
            }
            if before.keys() != after.keys() or len(edited) > _EDITS or job_slice.is_over:
                raise HistoryLost
            for key, now in after.items():
                document, then = before[key]
                if now.content_hash != then.content_hash:
                    raise HistoryLost
                if now != then:
                    edited.append((document, now))
        return edited
