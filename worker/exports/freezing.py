"""The first phase of an export: select its snapshots as they are at one moment."""

from collections.abc import Iterator, Mapping
from typing import Any

from bson import ObjectId

from worker.errors import PermanentError
from worker.exports.history import PROJECTION, History, HistoryLost, ReadTooSlow
from worker.exports.selection import Selected, Selection, is_duplicate
from worker.exports.spec import ExportSpec
from worker.exports.split import Splitter
from worker.exports.stratifying import Stratifying, person_of
from worker.formats.dataset import SPLITS
from worker.jobs.slices import Slice
from worker.service import Service
from worker.stores.connections import Document

_BATCH = 4000
_BATCH_BYTES = 4_000_000
"""Maximum size in bytes of the editable fields in one document of the selection, because notes may be long."""
SHARD_ROWS = 25_000
SHARD_BYTES = 64_000_000
"""Maximum number of snapshots in one data file, and their maximum size in MongoDB. A slice can write that in time."""
REDACTED_ROWS, REDACTED_BYTES = 2_500, 6_400_000
"""The same if the export redacts, which may take 3 s for a MB (docs/privacy.md)."""
_READ_SECONDS = 3.0
_WINDOW = 20_000
"""If a read takes longer than `_READ_SECONDS`, because few snapshots match, each later read examines only `_WINDOW`
snapshots."""
_FIRST_ID = ObjectId(b"\0" * 12)
_RESTARTS = 3


class EmptySelection(PermanentError):
    """No snapshot of this organization matches the filters."""

    code = "empty_selection"


class SelectionTooSlow(PermanentError):
    """MongoDB's history is too short to select all snapshots: raise minSnapshotHistoryWindowInSeconds."""

    code = "selection_too_slow"


class Freezing:
    """Selects the snapshots of one job, in slices that all read at the same cluster time."""

    def __init__(self, service: Service, job_slice: Slice, spec: ExportSpec, selection: Selection, key: str) -> None:
        self._service = service
        self._job_slice = job_slice
        self._spec = spec
        self._selection = selection
        self._organization = job_slice.job.organization
        self._history = History(service, spec.condition(self._organization))
        self._key = key
        self._has_selected = False
        """Whether this slice has selected any snapshots."""

    def __call__(self) -> bool:
        """Continue until the slice is over; return whether the selection is complete.

        Raises EmptySelection, SelectionTooSlow, LeaseLost, StoreUnavailable, StoreConflict.
        """
        if not self._job_slice.checkpoint:
            self._selection.remove()  # an erasure may have restarted the export
            self._begin()
        try:
            return self._stratify() and self._select()
        except HistoryLost:
            if self._has_selected:
                return False  # the next slice has all its time for what follows
        state = self._job_slice.checkpoint
        # The strata of a stratified selection hold for its first moment alone.
        if not self._spec.stratify and state.get("movedAfter", "") != state["after"]:
            state["movedAfter"] = state["after"]
            if self._history.move_on(self._job_slice, self._selection):
                return False
        if (restarts := state.get("restarts", 0) + 1) > _RESTARTS:
            raise SelectionTooSlow
        self._selection.remove()
        self._begin(restarts)
        return False

    def _begin(self, restarts: int = 0) -> None:
        self._job_slice.checkpoint = {
            "phase": "select",
            "restarts": restarts,
            "at": self._history.now(),
            "moment": self._service.clock.now(),
            "number": 0,
            "after": None,
            "shards": {},
            "parts": [],
            "counts": {"selected": 0, "duplicates": 0, "moved": 0},
        }
        if self._spec.stratify:
            self._job_slice.checkpoint |= {"stratify": {"after": None, "number": 0}, "strata": []}
        self._job_slice.progress = {"phase": "select", "selected": 0}
        self._job_slice.save()

    def _stratify(self) -> bool:
        shares = self._spec.shares
        if shares is None or "stratify" not in self._job_slice.checkpoint:
            return True
        splitter = Splitter(self._organization, self._key, shares, {})
        return Stratifying(self._service, self._job_slice, splitter, self._selection, self._read)(shares)

    # --- select ---------------------------------------------------------------------------------------------

    def _select(self) -> bool:
        state = self._job_slice.checkpoint
        moved = self._selection.moved() if self._spec.stratify else {}
        splitter = Splitter(self._organization, self._key, self._spec.shares, moved)
        known = self._selection.known_hashes() if self._spec.dedupe else set()
        while True:
            batch, after = self._read(state["after"], PROJECTION, _BATCH)
            if after is None:
                break
            state["after"] = after
            self._store(splitter, known, batch)
            self._has_selected = True
            if self._job_slice.is_over:
                return False
        if not state["counts"]["selected"]:
            raise EmptySelection
        return True

    def _read(self, after: ObjectId | None, projection: Document, count: int) -> tuple[list[Document], ObjectId | None]:
        """Read the next snapshots as they were at the moment.

        Returns up to `count` of them, perhaps none, and the id after which to continue, which is None at the end.
        Snapshots of the platform whose `_id` is no ObjectId are never read.
        """
        state = self._job_slice.checkpoint
        later = {"$gt": after or _FIRST_ID}
        end = None
        if "windows" not in state:
            try:
                found = self._history.read(state["at"], projection, count, {"_id": later}, _READ_SECONDS)
            except ReadTooSlow:
                state["windows"] = True
        if "windows" in state:
            end = self._history.skip(state["at"], self._organization, later["$gt"], _WINDOW)
            window = {**later, "$lte": end} if end else later
            found = self._history.read(state["at"], projection, count, {"_id": window})
        return found, found[-1]["_id"] if found else end

    def _store(self, splitter: Splitter, known: set[bytes], batch: list[Document]) -> None:
        state, counts = self._job_slice.checkpoint, self._job_slice.checkpoint["counts"]
        by_place: dict[tuple[str, int], list[Selected]] = {}
        for document in batch:
            selected = Selected.of(document)
            if self._spec.dedupe and is_duplicate(known, selected.content_hash):
                counts["duplicates"] += 1
                continue
            side = splitter.side(person_of(document))
            by_place.setdefault((side, self._shard(side, selected.size)), []).append(selected)
            counts["selected"] += 1
        documents = []
        for (side, shard), entries in by_place.items():
            for some in _within(entries):
                documents.append(self._selection.document(side, shard, state["number"], some))
                state["number"] += 1
        self._job_slice.progress = {"phase": "select", "selected": counts["selected"]}
        with self._service.connections.transaction() as session:
            if documents:
                self._selection.collection.insert_many(documents, session=session)
            self._job_slice.save(session)

    def _shard(self, side: str, size: int) -> int:
        """Return the number of the shard that takes the next snapshot of a side."""
        shards = self._job_slice.checkpoint["shards"]
        mine = shards.setdefault(side, {"count": 1, "rows": 0, "bytes": 0})
        rows, total = SHARD_ROWS, SHARD_BYTES
        if self._spec.redact:
            rows, total = min(rows, REDACTED_ROWS), min(total, REDACTED_BYTES)
        if mine["rows"] == rows or (mine["rows"] and mine["bytes"] + size > total):
            mine |= {"count": mine["count"] + 1, "rows": 0, "bytes": 0}
        mine["rows"] += 1
        mine["bytes"] += size
        return int(mine["count"] - 1)


def shards_in_order(shards: Mapping[str, Any]) -> list[tuple[str, int, int]]:
    """Return side, number and count of all shards, in the order in which they are written."""
    return [
        (side, number, shards[side]["count"])
        for side in SPLITS
        if side in shards
        for number in range(shards[side]["count"])
    ]


def _within(entries: list[Selected]) -> Iterator[list[Selected]]:
    """Yield lists whose editable fields together fit into one document."""
    some: list[Selected] = []
    size = 0
    for each in entries:
        weight = 200 + sum(4 * len(str(value)) for value in each.fields.values())
        if some and size + weight > _BATCH_BYTES:
            yield some
            some, size = [], 0
        some.append(each)
        size += weight
    if some:
        yield some
