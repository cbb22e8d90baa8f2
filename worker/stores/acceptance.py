"""Inserts requests into the ledger. A request is accepted once its entry is durable at majority.

A request on its own would wait twice for MongoDB's journal: when it is accepted, and when it is decided. A few requests
after a pause are therefore inserted without waiting, their workers are woken, and only then is the insert confirmed.
Meanwhile the workers already read the conversations. This is safe because a worker decides in a transaction at
majority, which follows the insert in MongoDB's oplog: if the insert is rolled back, so is the decision.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta

import pymongo
from pymongo import WriteConcern
from pymongo.errors import BulkWriteError, PyMongoError

from worker.domain.ledger_entry import LedgerEntry
from worker.errors import AcceptUnknown, SnapshotError, TaskInterrupt
from worker.log import get_logger
from worker.stores.connections import DURABLE, store_errors
from worker.stores.ledger import Key, Ledger, key_of

log = get_logger(__name__)

Wake = Callable[[Sequence[LedgerEntry]], object]
"""Wakes workers for new entries. After an error, the sweep does it."""

_FEW = 4
"""Maximum number of requests whose workers are woken before the insert is confirmed. Confirming takes a command of its
own, and many requests that share an insert would gain nothing: their workers are busy anyway."""
PAUSE_SECONDS = 0.01
"""Time without an insert after which the next one wakes workers early. The requests of a producer that sends one after
the other wait for their workers anyway, and it accepts a quarter fewer of them with the additional command."""
_NOT_CONFIRMED = WriteConcern(w=1, j=False)
_DUPLICATE_KEY = 11000
_READ_BACKS = 10  # within half a second: another process's insert of the same key may not be at majority yet


class Acceptance:
    """Inserts new entries into the ledger."""

    def __init__(self, ledger: Ledger, deadline: timedelta) -> None:
        """`deadline`: time limit of the confirmation, which begins after the wake-ups."""
        self._ledger = ledger
        self._seconds = deadline.total_seconds()
        self._ended = 0.0
        """When the last insert ended, by the monotonic clock."""

    def insert(self, entries: Sequence[LedgerEntry], until: float, wake: Wake | None = None) -> dict[Key, LedgerEntry]:
        """Insert entries in one command. An entry whose key exists already is not inserted.

        Args:
            entries: New entries, with the status `accepted`.
            until: The latest time of the insert, by the monotonic clock. An erasure searches for entries only for some
                time after its tombstone, so none may appear long after the tombstones were read.
            wake: Called with the entries that were inserted, as soon as workers can find them. If there are few, after
                a pause, it is called before they are known to be durable.

        Returns:
            The ledger's entry for each key, which may be an older one. A key is missing if its entry is not known to be
            durable, because it was neither inserted without an error nor read back at majority.

        Raises:
            AcceptUnknown: This applies to all keys.
        """
        if not entries:
            return {}
        new = {key_of(entry): entry for entry in entries}
        is_rare = len(entries) <= _FEW and time.monotonic() - self._ended >= PAUSE_SECONDS
        is_early = wake is not None and is_rare and any(entry.get("queue") for entry in entries)
        doubtful = self._insert(entries, _NOT_CONFIRMED if is_early else DURABLE, until)
        early = [entry for key, entry in new.items() if key not in doubtful] if is_early else []
        _call(wake, early)
        try:
            known = self._durable(new, early if is_early else None, doubtful)
        finally:
            self._ended = time.monotonic()
        left = {entry["_id"] for entry in entries} - {entry["_id"] for entry in early}
        _call(wake, [entry for entry in known.values() if entry["_id"] in left])
        return known

    def _durable(
        self, new: Mapping[Key, LedgerEntry], unconfirmed: Sequence[LedgerEntry] | None, doubtful: set[Key]
    ) -> dict[Key, LedgerEntry]:
        """Return the ledger's entry for each key whose entry is durable. Raises AcceptUnknown if there is none.

        `unconfirmed`: entries that were inserted and may not be durable yet; None if the insert was at majority.
        `doubtful`: keys that were not inserted, or perhaps not.
        """
        with pymongo.timeout(self._seconds):
            # Also if there is none: the confirmation waits for earlier entries with these keys as well.
            if unconfirmed is not None and not self.confirm(unconfirmed):
                doubtful = set(new)
            known = {key: entry for key, entry in new.items() if key not in doubtful}
            for attempt in range(_READ_BACKS):
                if not (missing := doubtful - set(known)):
                    break
                time.sleep(0.01 * attempt)
                try:
                    known |= self._read_back(missing)
                except AcceptUnknown:
                    if not known:
                        raise
                    break
        return known

    def _insert(self, entries: Sequence[LedgerEntry], concern: WriteConcern, until: float) -> set[Key]:
        """Insert entries; return the keys of those that may not have been inserted."""
        seconds = until - time.monotonic()
        if seconds <= 0:
            return set(map(key_of, entries))
        try:
            with pymongo.timeout(seconds):
                self._ledger.collection.with_options(write_concern=concern).insert_many(entries, ordered=False)
        except BulkWriteError as error:
            details = error.details or {}
            failed = details.get("writeErrors", [])
            if details.get("writeConcernErrors") or any(each["code"] != _DUPLICATE_KEY for each in failed):
                return set(map(key_of, entries))
            return {key_of(entries[each["index"]]) for each in failed}
        except PyMongoError:
            return set(map(key_of, entries))
        return set()

    def confirm(self, entries: Sequence[LedgerEntry]) -> bool:
        """Wait until these entries are durable at majority; return whether they are.

        The update finds the entries and changes nothing. MongoDB acknowledges such a write once everything before it in
        the oplog has the write concern:
        https://github.com/mongodb/mongo/blob/r6.0.5/src/mongo/db/ops/write_ops_exec.cpp (LastOpFixer). Another primary,
        which has rolled the insert back, does not find them.
        """
        condition = {"_id": {"$in": [entry["_id"] for entry in entries]}}
        unchanged = {"$max": {"round": 0}}
        try:
            return self._ledger.collection.update_many(condition, unchanged).matched_count == len(entries)
        except PyMongoError:
            return False

    def _read_back(self, keys: Iterable[Key]) -> dict[Key, LedgerEntry]:
        """Return the entries of these keys, from the primary at majority. Raises AcceptUnknown."""
        conditions = [{"organizationId": organization, "requestId": request_id} for organization, request_id in keys]
        try:
            with store_errors():
                return {key_of(entry): entry for entry in self._ledger.at_majority.find({"$or": conditions})}
        except SnapshotError as error:
            raise AcceptUnknown from error


def _call(wake: Wake | None, entries: Sequence[LedgerEntry]) -> None:
    """Wake workers for these entries. An error must not keep the caller from learning whether they are durable."""
    if not wake or not entries:
        return
    try:
        wake(entries)
    except Exception as error:
        if isinstance(error, TaskInterrupt):
            raise
        log.exception("wake_failed", requests=len(entries))
