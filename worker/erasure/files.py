"""Removes a person's snapshots, or snapshots that are too old, from the exports in SNAPSHOTS_EXPORTS_URL.

In a finished export, the data files that contain one of these snapshots are deleted, its id is removed from the list of
ids, and the manifest is marked stale: `snapshots exports rebuild` writes the missing files without these snapshots. An
export in progress begins again.

Only one job at a time changes the files of an export. Otherwise the manifest and the lists that one of them has read
would overwrite what the other has removed in the meantime.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, Literal

from bson import ObjectId
from pymongo import ReturnDocument

from worker.clock import to_json
from worker.erasure.identifiers import Identifiers
from worker.erasure.records import unpacked
from worker.errors import InvalidSettings, NotFound, TransientError
from worker.exports.destination import Destination
from worker.exports.manifest import NAME, encode, recorded_files
from worker.exports.places import open_destination
from worker.exports.selection import Selection, read_selected
from worker.exports.verifying import read_manifest
from worker.exports.writing import id_line
from worker.jobs.job import COMPLETED, RUNNING, UNFINISHED, Job
from worker.jobs.slices import Slice
from worker.jobs.store import ENDED, JobFilter, Jobs
from worker.stores.connections import store_errors

_PAGE = 50
_PAUSE = timedelta(seconds=1)
"""How long a slice waits for another job that is changing the files of an export."""
_AHEAD = timedelta(hours=1)
"""A lock that ends further in the future was set by a former primary's clock, and counts as ended."""


class Files:
    """Removes snapshots from an organization's exports, for the job of an erasure or of retention.

    The job's checkpoint has the `ids` of the removed snapshots, and `removedAt`. All methods raise DestinationFailed,
    DestinationUnavailable, StoreUnavailable, StoreConflict.
    """

    def __init__(
        self, jobs: Jobs, job_slice: Slice, person: Identifiers | None = None, *, reason: Literal["erased", "expired"]
    ) -> None:
        """`person`: also remove exports that were filtered by this contact."""
        self._jobs = jobs
        self._job_slice = job_slice
        self._person = person
        self._reason = reason
        self._settings = jobs.service.settings
        self._ids = _as_text(job_slice.checkpoint["ids"])
        self._mentioned = _as_text(job_slice.checkpoint.get("mentioned", b""))

    def remove(self, counts: Counter[str]) -> bool:
        """Process the next exports, newest first; return whether all are done.

        If another job is changing the files of an export, this sets the slice's `pause` and returns False.
        """
        state = self._job_slice.checkpoint
        which = JobFilter(self._job_slice.job.organization, "export")
        while page := self._jobs.list(which, _PAGE, state.get("export")):
            for job in page:
                if self._job_slice.is_over or not self._clean(job, counts):
                    return False
                state["export"] = job.id
        state.pop("export", None)
        return True

    def _clean(self, job: Job, counts: Counter[str]) -> bool:
        """Remove the snapshots from one export; return False if another job is changing its files."""
        of_contact = self._person is not None and job.spec.get("contactId") == str(self._person.contact)
        if job.is_local:
            if of_contact and job.is_finished:
                self._jobs.delete(job.id)
            if job.status in UNFINISHED and not self._restart(job, counts):
                return False
            may_be_complete = job.error is not None and "mayBeComplete" in job.error["details"]
            counts["exports elsewhere"] += job.status == COMPLETED or may_be_complete
        elif of_contact:
            self._jobs.cancel(job.id)
            self._remove(job)
            self._jobs.delete(job.id)  # last, because without the record no later slice would find the files
            counts["exports"] += 1
        elif job.status in UNFINISHED:
            return self._restart(job, counts)
        elif job.status in ENDED and job.checkpoint is not None:  # no worker has removed its files yet
            self._remove(job)
        elif job.status == COMPLETED and (destination := self._open(job)) and destination.manifest():
            with self._locked(job) as is_mine:
                if not is_mine:
                    self._job_slice.pause = _PAUSE
                    return False
                counts["export files"] += self._clean_files(job, destination)
        return True

    def _remove(self, job: Job) -> None:
        """Remove the files of an export, and its selection."""
        if destination := self._open(job):
            destination.remove()
        Selection(self._jobs.service.connections, job.id).remove()

    @contextmanager
    def _locked(self, export: Job) -> Iterator[bool]:
        """Lock the files of an export in the block; yield False if another job has locked them.

        The lock of a slice that was killed ends with its lease, and does not hold up the next slice of the same job.
        """
        own, now = self._job_slice.job.id, self._jobs.service.clock.now()
        ended = {"$not": {"$gt": now, "$lt": now + _AHEAD}}
        free = {"_id": export.id, "$or": [{"filesLock.until": ended}, {"filesLock.job": own}]}
        lock = {"job": own, "until": now + self._jobs.lease, "token": ObjectId()}
        with store_errors():
            is_mine = bool(self._jobs.collection.update_one(free, {"$set": {"filesLock": lock}}).matched_count)
        try:
            yield is_mine
        finally:
            if is_mine:
                with suppress(TransientError), store_errors():
                    mine = {"_id": export.id, "filesLock.token": lock["token"]}
                    self._jobs.collection.update_one(mine, {"$unset": {"filesLock": ""}})

    def _open(self, job: Job) -> Destination | None:
        try:
            return open_destination(self._settings, job.id)
        except InvalidSettings:  # the setting was removed, so no worker can reach the files
            return None

    # --- in progress ----------------------------------------------------------------------------------------

    def _restart(self, job: Job, counts: Counter[str]) -> bool:
        """Restart an export that may have selected the person; return what `_clean` returns.

        Our own lease on it keeps other slices out in the meantime.
        """
        moment = (job.checkpoint or {}).get("moment")
        if moment is None or moment > self._job_slice.checkpoint["removedAt"]:
            return True
        now = self._jobs.service.clock.now()
        held = {"status": RUNNING, "leasedUntil": now + self._jobs.lease, "enqueuedAt": now}
        change = {"$set": held, "$inc": {"fence": 1}, "$unset": {"checkpoint": "", "progress": ""}}
        condition = {"_id": job.id, "status": {"$in": UNFINISHED}, "fence": job.fence}
        with store_errors():
            after = ReturnDocument.AFTER
            found = self._jobs.collection.find_one_and_update(condition, change, return_document=after)
        if found is None:  # another slice has claimed it, or it was deleted
            with suppress(NotFound):
                return self._clean(self._jobs.get(job.id), counts)
            return True
        Selection(self._jobs.service.connections, job.id).remove()
        if not job.is_local and (destination := self._open(job)):
            destination.remove()
        counts["exports restarted"] += 1
        self._jobs.release(Job.read(found))
        return True

    # --- finished -------------------------------------------------------------------------------------------

    def _clean_files(self, job: Job, destination: Destination) -> int:
        """Remove the data files that contain one of the snapshots; return how many.

        The manifest is marked stale first, and the record of the export last.
        """
        read_manifest(destination)
        with destination.open(NAME) as file:
            manifest: dict[str, Any] = json.load(file)
        stale: dict[str, str] = dict(manifest.get("stale", {}).get("files", {}))
        left: dict[str, bytes] = {}
        paths = set(destination.paths())
        for record, data in _pairs(manifest["files"]):
            if record["path"] not in paths:
                continue
            with destination.open(record["path"]) as file:
                lines = file.read().splitlines(keepends=True)
            kept = self._current([line for line in lines if line.partition(b"\t")[0] not in self._ids])
            if kept == lines:
                continue
            left[record["path"]] = ids = b"".join(kept)
            record |= {"bytes": len(ids), "sha256": hashlib.sha256(ids).hexdigest()}
            if data:
                stale[data["path"]] = record["path"]
        if left:
            at = to_json(self._jobs.service.clock.now())
            manifest["stale"] = {"since": at, "reason": self._reason, "files": dict(sorted(stale.items()))}
            self._job_slice.check()  # reading all lists may have taken longer than the lock lasts
            destination.replace(NAME, encode(manifest))
        removed = [path for path in stale if path in paths]
        for path in removed:
            destination.discard(path)
        for path, content in left.items():  # after the others, so that an interruption repeats them
            destination.replace(path, content)
        self._record(job, manifest)
        return len(removed)

    def _record(self, job: Job, manifest: Mapping[str, Any]) -> None:
        """Update the list of files in the record of an export: new sizes and hashes, and which files were removed."""
        stale = manifest.get("stale")
        files = recorded_files(manifest["files"], stale)
        if stale and files != (job.result or {}).get("files"):
            with store_errors():
                which = {"_id": job.id, "status": COMPLETED}
                self._jobs.collection.update_one(which, {"$set": {"result.files": files}})

    def _current(self, lines: Sequence[bytes]) -> list[bytes]:
        """Return the lines of a list of ids, with the current hashes of snapshots in which mentions were redacted."""
        mentioned = [ObjectId(key.decode()) for line in lines if (key := line.partition(b"\t")[0]) in self._mentioned]
        if not mentioned:
            return list(lines)
        now = read_selected(self._jobs.service, self._job_slice.job.organization, mentioned)
        current = []
        for line in lines:
            name, _, _, outcome = line.decode().rstrip("\n").split("\t")
            found = now.get(ObjectId(name))
            current.append(id_line(found, outcome) if found else line)
        return current


def _as_text(ids: bytes) -> set[bytes]:
    return {str(key).encode() for key in unpacked(ids)}


def _pairs(files: Iterable[dict[str, Any]]) -> list[tuple[dict[str, Any], dict[str, Any] | None]]:
    """Pair each list of ids with its data file, or with None: a split without rows has no data file."""
    records = list(files)
    pairs: list[tuple[dict[str, Any], dict[str, Any] | None]] = []
    by_side = {
        side: [each for each in records if each["kind"] == "data" and each["split"] == side]
        for side in {each.get("split") for each in records}
    }
    for record in records:
        if record["kind"] == "ids":
            data = by_side[record["split"]]
            pairs.append((record, data.pop(0) if data else None))
    return pairs
