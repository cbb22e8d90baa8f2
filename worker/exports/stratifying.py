"""The pass before the selection of a stratified export, which decides who moves to another split.

It reads the person and the quality of each snapshot, in slices, and stores 8 bytes for each in MongoDB.
"""

from array import array
from collections.abc import Callable

from bson import ObjectId

from worker.exports.selection import Selection
from worker.exports.split import MAX_STRATA, Shares, Splitter, quality_of, stratify
from worker.jobs.slices import Slice
from worker.service import Service
from worker.source.ids import read_id
from worker.stores.connections import Document

PAGE = 20_000
ReadPage = Callable[[ObjectId | None, Document, int], tuple[list[Document], ObjectId | None]]
"""Reads snapshots at the moment of the export: after this id, with this projection, and at most this many.

Also returns the id after which to continue, which is None at the end."""


class Stratifying:
    """Runs the pass. Its state is in the checkpoint: `stratify` until the pass is over, and `strata`, the qualities."""

    def __init__(
        self, service: Service, job_slice: Slice, splitter: Splitter, selection: Selection, read: ReadPage
    ) -> None:
        self._service = service
        self._job_slice = job_slice
        self._splitter = splitter
        self._selection = selection
        self._read = read

    def __call__(self, shares: Shares) -> bool:
        """Continue until the slice is over; return whether the pass is complete.

        Raises HistoryLost, LeaseLost, StoreUnavailable, StoreConflict.
        """
        state = self._job_slice.checkpoint["stratify"]
        while True:
            page, after = self._read(state["after"], {"contactId": 1, "quality": 1}, PAGE)
            if after is None:
                break
            marks = array("Q", map(self._mark, page))
            state["after"], state["number"] = after, state["number"] + 1
            with self._service.connections.transaction() as session:
                self._selection.collection.insert_one(self._selection.marks(state["number"], marks), session=session)
                self._job_slice.save(session)
            if self._job_slice.is_over:
                return False
        self._finish(shares)
        return True

    def _mark(self, document: Document) -> int:
        strata: list[str] = self._job_slice.checkpoint["strata"]
        quality = quality_of(document.get("quality"))
        if quality not in strata and len(strata) < MAX_STRATA - 1:
            strata.append(quality)
        # Qualities beyond the limit form one stratum together.
        stratum = strata.index(quality) if quality in strata else MAX_STRATA - 1
        return self._splitter.mark(person_of(document), stratum)

    def _finish(self, shares: Shares) -> None:
        moved = stratify(shares, self._selection.all_marks())
        self._job_slice.checkpoint["counts"]["moved"] = len(moved)
        del self._job_slice.checkpoint["stratify"], self._job_slice.checkpoint["strata"]
        with self._service.connections.transaction() as session:
            self._selection.replace_marks(moved, session)
            self._job_slice.save(session)


def person_of(document: Document) -> ObjectId:
    """Return the contact of a snapshot, or the snapshot's own id if it has no contact."""
    person = read_id(document.get("contactId"))
    return person if isinstance(person, ObjectId) else document["_id"]
