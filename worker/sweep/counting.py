"""Keeps the counts of `worker.stores.counts` up to date, and compares them with full counts in turn."""

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import pymongo
from bson import ObjectId
from pymongo.client_session import ClientSession

from worker.errors import StoreConflict, TransientError
from worker.log import get_logger
from worker.service import Service
from worker.stores.connections import Document, store_errors
from worker.stores.counts import (
    CHECK,
    Tally,
    checkpoint,
    counts_of,
    is_recent,
    known_within,
    reached_at,
    tally_of,
)
from worker.stores.folding import add, fold
from worker.stores.stats import ANY, at_one_moment, identities_within, ledger_documents
from worker.sweep.budget import Budget

log = get_logger(__name__)

_FOLD_SECONDS = 0.3
"""The time that the fold may take in one sweep. The next sweep continues."""
_REQUESTS = 50_000
"""A comparison counts organizations with about this many requests together, which takes a tenth of a second."""
_COST_FACTOR = 20
"""After a comparison, the next one waits for this many times as long as it took."""
_MAX_SECONDS, _PAUSE = 10.0, timedelta(seconds=45)
"""How many seconds a comparison may take, and how long the next one waits if it takes longer."""
_LONGEST_REST = timedelta(hours=1)
"""A rest that ends later was set by a former primary's clock: `_COST_FACTOR` times the longest one takes minutes."""


@dataclass(frozen=True, slots=True)
class _Comparison:
    """The comparison of some organizations at one moment. `differences`: full counts minus stored counts."""

    state: Document
    last: ObjectId | None
    """The last of the organizations, or None if no further ones follow."""
    differences: Tally


class CountUpkeep:
    """Keeps the counts by organization up to date, and compares them with full counts in turn.

    Several may run at once.
    """

    def __init__(self, service: Service) -> None:
        self._connections = service.connections

    def __call__(self, budget: Budget | None = None) -> None:
        """Add finished requests to the counts, then compare some organizations. Raises StoreUnavailable."""
        share = budget.share(_FOLD_SECONDS) if budget else Budget(_FOLD_SECONDS)
        try:
            while fold(self._connections) and not share.is_over:
                pass
        except StoreConflict as error:  # another sweep did it, or MongoDB is too slow: the next sweep repeats it
            if budget and budget.is_nearly_over:
                raise
            log.info("counting_postponed", reason=error.message)
            return
        try:
            with pymongo.timeout(_MAX_SECONDS):
                self.compare()
        except TransientError as error:  # a very large organization must not take all the time of every sweep
            if budget and budget.is_nearly_over:
                raise
            log.warning("comparison_postponed", reason=error.message)
            pause = {"pausedUntil": self._connections.clock.now() + _PAUSE}
            with store_errors():
                counts_of(self._connections).update_one({"_id": CHECK}, {"$set": pause}, upsert=True)

    def compare(self) -> int:
        """Count the next organizations in full, and correct what differs; return how many of them differed.

        In the first turn, no counts are kept yet of organizations that are still to come, so differences are not
        mismatches.
        """
        now = self._connections.clock.now()
        began = time.monotonic()
        if (compared := at_one_moment(self._connections, self._compare)) is None:
            return 0
        took = time.monotonic() - began
        state = compared.state
        changes: Document = {
            "after": compared.last,
            "restUntil": now + timedelta(seconds=_COST_FACTOR * took),
        }
        if state.get("after") is None:
            changes["turnSince"] = now
        if compared.last is None:
            changes["completeSince"] = changes.get("turnSince", state.get("turnSince", now))
        differences = compared.differences if "completeSince" in state else {}
        if differences:
            organization, counts = next(iter(differences.items()))
            changes["lastMismatch"] = {"organizationId": organization, "at": now, "counts": dict(counts)}
            changes["mismatches"] = state.get("mismatches", 0) + len(differences)
        if not self._save(compared, changes):
            return 0  # another sweep has compared them already
        if differences:
            log.error("counts_differed", organizations=len(differences), first=str(organization), counts=dict(counts))
        return len(differences)

    def _compare(self, session: ClientSession) -> _Comparison | None:
        state, reached = checkpoint(self._connections, CHECK, session), reached_at(self._connections, session)
        now = self._connections.clock.now()
        if _is_ahead(state.get("pausedUntil"), now):
            return None
        if reached is None or not is_recent(self._connections, reached, now):
            return None  # what finished since is too much to read; the next folds add it
        if "completeSince" in state and _is_ahead(state.get("restUntil"), now):
            return None
        last = self._last_of_next(state, session)
        after = state.get("after")
        which = {"$gt": after} if after else {}
        which |= {"$lte": last} if last else {}
        known = known_within(self._connections, session, reached, which)
        full = {each.organization: tally_of(each) for each in identities_within(self._connections, session, which)}
        differences = {}
        for organization in {*known, *full}:
            difference = full.get(organization, Counter())
            difference.subtract(known.get(organization, {}))
            if changed := {name: count for name, count in difference.items() if count}:
                differences[organization] = Counter(changed)
        return _Comparison(state, last, differences)

    def _last_of_next(self, state: Document, session: ClientSession) -> ObjectId | None:
        """Return the last organization of the next comparison, or None if no further organization follows.

        The organizations up to it have about `_REQUESTS` requests together. The comparison also covers those between
        them that have no stored counts yet.
        """
        counted, last = 0, None
        for organization, requests in self._sizes(state, session):
            if counted >= _REQUESTS:
                return last
            counted += requests
            last = organization
        return None

    def _sizes(self, state: Document, session: ClientSession) -> Iterator[tuple[ObjectId, int]]:
        """Yield the next organizations, in order, each with the number of its requests.

        The number comes from the stored counts or, before every organization was compared once, from the ledger.
        """
        later: Document = {"$gt": state["after"]} if state.get("after") else {}
        if "completeSince" in state:
            known: Document = {"finishedAt": None, "_id": {"$type": "objectId", **later}}
            with counts_of(self._connections).find(known, session=session).sort("_id", 1) as documents:
                for each in documents:
                    counts = each.get("counts", {})
                    yield each["_id"], counts.get("completed", 0) + counts.get("failed", 0)
            return
        ledger = ledger_documents(self._connections)
        for organization in sorted(
            ledger.distinct("organizationId", {"organizationId": later or ANY}, session=session)
        ):
            yield (
                organization,
                ledger.count_documents({"organizationId": organization}, limit=_REQUESTS, session=session),
            )

    def _save(self, compared: _Comparison, changes: Document) -> bool:
        """Correct the counts, and record how far the comparison has come; return False if another sweep did so.

        A fold may have changed the same documents since the comparison, which is harmless because both only add.
        """
        kept = counts_of(self._connections)
        with self._connections.transaction() as session:
            if not compared.state:
                kept.insert_one({"_id": CHECK, **changes}, session=session)
            else:
                expected = {name: compared.state.get(name) for name in ("after", "restUntil")}
                changed = kept.update_one({"_id": CHECK, **expected}, {"$set": changes}, session=session)
                if not changed.matched_count:
                    return False
            add(self._connections, session, compared.differences)
        return True


def _is_ahead(moment: datetime | None, now: datetime) -> bool:
    """Return whether the end of a rest is still to come."""
    return moment is not None and now < moment <= now + _LONGEST_REST
