"""The kept counts after a run: those of `worker/stores/counts.py`, compared by sweeps and by the checker."""

import time
from collections.abc import Iterator, Sequence

from bson import ObjectId
from pymongo.errors import PyMongoError

from chaos.evidence import Evidence
from worker.bootstrap import build
from worker.errors import TransientError
from worker.settings import Settings
from worker.stores.counts import CHECK, FOLD, counts_of, totals
from worker.stores.stats import Identity
from worker.sweep.counting import CountUpkeep

_SECONDS = 120.0


def read(settings: Settings) -> tuple[list[Identity], list[str]]:
    """Sweeps until a turn of comparisons is complete; returns the kept counts, and what was wrong with them."""
    service = build(settings)
    connections = service.connections
    deadline = time.monotonic() + _SECONDS
    last: object = None
    try:
        now = connections.clock.now()
        while time.monotonic() < deadline:
            try:
                # A comparison that a fault made slow lets the next one wait for minutes, which would tell nothing here.
                counts_of(connections).update_one({"_id": CHECK}, {"$unset": {"restUntil": "", "pausedUntil": ""}})
                CountUpkeep(service)()
                kept = totals(connections)
                if kept.verified_since and kept.verified_since >= now:
                    wrong = [f"{kept.mismatches} were corrected, the last one: {kept.last_mismatch}"]
                    return kept.identities, wrong if kept.mismatches else []
                last = [counts_of(connections).find_one({"_id": key}) for key in (FOLD, CHECK)]
            except (TransientError, PyMongoError) as error:
                last = error
            time.sleep(0.2)
    finally:
        connections.close()
    return [], [f"not all organizations were compared within {_SECONDS:.0f} s: {last!r}"]


def differing(evidence: Evidence, kept: Sequence[Identity]) -> Iterator[str]:
    """Yields the organizations whose kept counts are not those of the ledger and of the snapshots."""
    counted: dict[ObjectId, Identity] = {}
    for entry in (*evidence.ledger, *evidence.erasing_ledger):
        own = counted.setdefault(entry["organizationId"], Identity(entry["organizationId"]))
        own.accepted += 1
        own.failed += entry["status"] == "failed"
        if entry["status"] == "completed":
            own.completed += 1
            own.deleted += bool(entry.get("deletedAt"))
            own.unchanged += bool(entry.get("unchanged"))
    for snapshot in (*evidence.snapshots, *evidence.erasing_snapshots):
        key = ObjectId(snapshot.organization)
        counted.setdefault(key, Identity(key)).snapshots += 1
    for own in counted.values():
        own.in_flight = own.accepted - own.completed - own.failed
    known = {each.organization: each for each in kept}
    for key in {*counted, *known}:
        if counted.get(key) != known.get(key):
            yield f"{key}: kept {known.get(key)}, and there are {counted.get(key)}"
