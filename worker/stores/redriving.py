"""Redrives requests: accepts failed ones again, in their next round."""

import time
from collections.abc import Sequence
from datetime import datetime

from bson import ObjectId
from pymongo.errors import PyMongoError

from worker.domain.ledger_entry import ACCEPTED, REDRIVABLE, LedgerEntry
from worker.errors import RedriveUnknown, StoreConflict, StoreUnavailable
from worker.stores.connections import Connections, store_errors
from worker.stores.counts import change_of, record_changes
from worker.stores.ledger import ledger_of

_ATTEMPTS, _PAUSE_SECONDS = 5, 0.02
_OF_OUTCOME = ("error", "finishedAt", "sentAt", "attempts", "awaited", "lastError", "swept", "unendedRuns")


def redrive(connections: Connections, ids: Sequence[ObjectId], at: datetime, queue: str) -> list[LedgerEntry]:
    """Accept redrivable entries again; return the entries that were changed.

    Args:
        connections: The connections of this process.
        ids: Ledger ids. Entries that cannot be redriven are skipped.
        at: The time of the redrive, by MongoDB's clock.
        queue: The Celery queue of the wake-ups, which the caller publishes.

    Raises:
        StoreUnavailable: MongoDB cannot be reached.
        StoreConflict: Other processes kept changing the same entries.
        RedriveUnknown: A commit got no answer, and its result could not be read either.
    """
    unknown = False
    for attempt in range(_ATTEMPTS):
        time.sleep(_PAUSE_SECONDS * attempt)
        try:
            return _redrive(connections, ids, at, queue, again=unknown)
        except (StoreConflict, StoreUnavailable) as error:
            unknown = unknown or _may_have_been_committed(error)
            if attempt == _ATTEMPTS - 1 or (isinstance(error, StoreUnavailable) and not unknown):
                if unknown:
                    raise RedriveUnknown from error
                raise
    raise AssertionError("unreachable")


def _may_have_been_committed(error: StoreConflict | StoreUnavailable) -> bool:
    cause = error.__cause__
    return isinstance(cause, PyMongoError) and cause.has_error_label("UnknownTransactionCommitResult")


def _redrive(
    connections: Connections, ids: Sequence[ObjectId], at: datetime, queue: str, *, again: bool
) -> list[LedgerEntry]:
    """Redrive entries, and record the change of the counts in the same transaction.

    `again`: a transaction of this redrive may have been committed, and its entries may have failed in their new round.
    """
    ledger = ledger_of(connections)
    change = {
        "$set": {"status": ACCEPTED, "unended": 0, "queue": queue, "enqueuedAt": at, "redrivenAt": at},
        "$inc": {"round": 1},
        "$unset": dict.fromkeys(_OF_OUTCOME, ""),
    }
    with connections.transaction() as session, store_errors():
        if again and (done := list(ledger.find({"_id": {"$in": list(ids)}, "redrivenAt": at}, session=session))):
            return done
        which = {"_id": {"$in": list(ids)}, **REDRIVABLE}
        before = list(ledger.find(which, {"organizationId": 1, "finishedAt": 1}, session=session))
        if not before:
            return []
        these = {"_id": {"$in": [entry["_id"] for entry in before]}}
        ledger.update_many(these, change, session=session)
        record_changes(connections, session, [change_of(entry, failed=-1) for entry in before])
        return list(ledger.find(these, session=session))
