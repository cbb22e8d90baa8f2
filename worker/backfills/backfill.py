"""The work of a backfill: count, then page by page accept and enqueue requests, and count their outcomes.

The request id is derived from the conversation, so that a page that is repeated makes the same requests.
"""

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from bson import ObjectId

from worker.backfills.progress import Checkpoint, Progress
from worker.backfills.selection import Selection
from worker.backfills.spec import BackfillSpec
from worker.domain.ledger_entry import ACCEPTED, COMPLETED, is_stripped
from worker.errors import BrokerUnavailable, InvalidRequest, SnapshotDeleted, TransientError
from worker.jobs.job import Job
from worker.jobs.slices import Slice
from worker.service import NewRequest, Receipt, Service
from worker.source.ids import read_id
from worker.stores.connections import Document, store_errors
from worker.stores.wakeups import BULK, INTERACTIVE, UNKNOWN, Queues

PREFIX = "all:"
MAX_OPEN = 5000
"""Maximum number of undecided requests of one backfill: enough to keep workers busy, and few enough that a pause has an
effect soon."""
MAX_INTERACTIVE_WAIT = timedelta(seconds=2)
"""How long the oldest interactive message may wait before a backfill pauses."""
_COUNT_PAGE = 1000
_WINDOW = 400
"""How many open requests are read at once: at first the oldest, because workers process them in order. Reading more,
five times a second, took a tenth of MongoDB's time."""
_COUNT_EVERY, _SAVE_EVERY = 0.2, 0.25
"""The shortest interval between two reads of outcomes, and between two writes of the job's record, in seconds."""
_RENEW_EVERY = 5.0
"""Seconds after which the record is written although nothing has changed, which renews the lease."""

OnProgress = Callable[[Progress], None]


class Backfill:
    """Works on slices of one backfill. See `worker.jobs.slices.Work`."""

    def __init__(
        self, service: Service, pages: int | None = None, pause: float = 1.0, on_progress: OnProgress | None = None
    ) -> None:
        """`pages`: maximum number of pages in a slice, so that it occupies a worker only briefly. `pause`: seconds."""
        self._service = service
        self._pages = pages
        self._pause = timedelta(seconds=pause)
        self._on_progress = on_progress
        self._queues = Queues(service.connections)
        self._counted_at = self._saved = 0.0
        self._unsaved = True

    def __call__(self, job_slice: Slice) -> dict[str, Any] | None:
        """Work on one slice; return the result once the backfill is done, and None before.

        Raises InvalidRequest, LeaseLost, or TransientError if a server is down, after which the slice is repeated.
        """
        spec = BackfillSpec.of(job_slice.job, self._service.settings)
        selection = Selection(self._service.connections, spec)
        progress, at = Progress.read(job_slice.progress), Checkpoint.read(job_slice.checkpoint)
        job_slice.pause = None
        pages = 0
        while not (job_slice.pause or job_slice.is_over or pages == self._pages):
            if progress.conversations is None:
                self._count(spec, selection, progress, at)
            else:
                self._count_outcomes(progress, at)
                if at.exhausted and not at.open:
                    self._save(job_slice, progress, at, at_once=True)
                    return progress.as_fields()
                if at.exhausted or len(at.open) >= MAX_OPEN or self._others_wait():
                    job_slice.pause = self._pause
                else:
                    job_slice.check()
                    self._request(job_slice, spec, selection, progress, at)
            self._save(job_slice, progress, at)
            pages += 1
        if self._pages:
            self._save(job_slice, progress, at, at_once=True)
        return None

    def _save(self, job_slice: Slice, progress: Progress, at: Checkpoint, *, at_once: bool = False) -> None:
        job_slice.progress, job_slice.checkpoint = progress.as_fields(), at.as_fields()
        if self._on_progress:
            self._on_progress(progress)
        since = time.monotonic() - self._saved
        if (at_once and self._unsaved) or since > (_SAVE_EVERY if self._unsaved else _RENEW_EVERY):
            job_slice.save()
            self._saved, self._unsaved = time.monotonic(), False

    # --- count ----------------------------------------------------------------------------------------------

    def _count(self, spec: BackfillSpec, selection: Selection, progress: Progress, at: Checkpoint) -> None:
        self._unsaved = True
        if (total := selection.count()) is None:
            selected, position = selection.page(at.counted_after, _COUNT_PAGE)
            at.counted, at.counted_after = at.counted + len(selected), position
            if position is not None and (spec.limit is None or at.counted < spec.limit):
                return
            total = at.counted
        elif unusable := selection.count_unusable():
            progress.refused[InvalidRequest.code] = unusable
        progress.conversations = total if spec.limit is None else min(total, spec.limit)

    # --- request --------------------------------------------------------------------------------------------

    def _request(
        self, job_slice: Slice, spec: BackfillSpec, selection: Selection, progress: Progress, at: Checkpoint
    ) -> None:
        """Request a page of conversations. Changes nothing unless all of it is accepted. Raises TransientError."""
        found, position = selection.page(at.after, self._service.settings.chunk_size)
        if spec.limit is not None:
            found = found[: spec.limit - at.taken]
        requests = [each for document in found if (each := _request_for(spec, document))]
        receipts: list[Receipt] = []
        refused = Counter[str]({InvalidRequest.code: len(found) - len(requests)})
        deleted = 0
        for answer in self._service.accept(requests) if requests else ():
            match answer:
                case Receipt():
                    receipts.append(answer)
                case TransientError():
                    raise answer
                case SnapshotDeleted():
                    deleted += 1
                case _:
                    refused[answer.code] += 1
        self._service.enqueue(receipts)
        progress.requests += len(receipts)
        # Not `created`: if a page is repeated after a crash, its requests exist already.
        progress.accepted += sum(_is_new(each, job_slice.job) for each in receipts)
        progress.deleted += deleted
        progress.refused += refused
        at.open += [each.id for each in receipts]
        at.after, at.taken = position, at.taken + len(found)
        at.exhausted = position is None or at.taken == spec.limit
        self._unsaved = True

    def _others_wait(self) -> bool:
        """Return whether interactive requests have been waiting for a worker for too long."""
        try:
            oldest = self._queues.oldest_stamp(INTERACTIVE)
        except BrokerUnavailable:
            return False  # requests are accepted all the same, and the sweep enqueues them
        return oldest not in {None, UNKNOWN} and self._service.clock.now() - oldest > MAX_INTERACTIVE_WAIT

    # --- outcomes -------------------------------------------------------------------------------------------

    def _count_outcomes(self, progress: Progress, at: Checkpoint) -> None:
        """Read and count the outcomes of the oldest open requests, as long as most of them are finished.

        Then count those of a random window among the rest, so that slow old requests do not hide finished newer ones.
        """
        if time.monotonic() - self._counted_at < _COUNT_EVERY:
            return
        first = 0
        while first < len(at.open):
            size = len(at.open[first : first + _WINDOW])
            finished = self._count_window(progress, at, first)
            first += size - finished
            if finished < size // 2:
                break
        if first < len(at.open):
            self._count_window(progress, at, random.randrange(first, len(at.open)))
        self._counted_at = time.monotonic()

    def _count_window(self, progress: Progress, at: Checkpoint, first: int) -> int:
        """Count the outcomes of `_WINDOW` open requests from this position on; return how many are finished."""
        window = at.open[first : first + _WINDOW]
        finished = self._finished(window)
        for entry in finished:
            if entry["status"] == COMPLETED:
                progress.completed += 1
            else:
                progress.failures[entry.get("error", {}).get("code", "failed")] += 1
        ids = {entry["_id"] for entry in finished}
        at.open[first : first + _WINDOW] = [each for each in window if each not in ids]
        self._unsaved |= bool(ids)
        return len(ids)

    def _finished(self, ids: Sequence[ObjectId]) -> list[Document]:
        """Return the decided requests among these, at majority, so that a failover cannot roll the counts back."""
        condition = {"_id": {"$in": list(ids)}, "status": {"$ne": ACCEPTED}}
        fields = {"status": 1, "error.code": 1}
        with store_errors():
            found: Any = self._service.ledger.at_majority.find(condition, fields, batch_size=len(ids) + 1)
            return list(found)


def _is_new(receipt: Receipt, job: Job) -> bool:
    return not is_stripped(receipt.entry) and receipt.entry["acceptedAt"] >= job.accepted_at


def _request_for(spec: BackfillSpec, document: Document) -> NewRequest | None:
    """Return the request for a conversation; None if it has no contact."""
    conversation, contact = read_id(document["_id"]), read_id(document.get("contactId"))
    if not (isinstance(conversation, ObjectId) and isinstance(contact, ObjectId)):
        return None
    return NewRequest(spec.request(contact, conversation), f"{PREFIX}{conversation}", "backfill", BULK)
