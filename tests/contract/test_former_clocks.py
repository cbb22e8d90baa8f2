"""Times in the future, which a former primary of MongoDB has set because its clock was ahead, hold nothing up."""

import pytest

from support.ledger import Bench
from worker.closings.policies import Policies
from worker.stores.checkpoints import Checkpoints
from worker.stores.counts import CHECK, counts_of
from worker.sweep.budget import Budget
from worker.sweep.counting import CountUpkeep
from worker.sweep.expiry import Expiry


def test_old_snapshots_are_found_although_the_last_look_is_dated_ahead(bench: Bench) -> None:
    Policies(bench.connections).set(bench.organization, {"keepFor": ["1d"]})
    bench.database.trainingsnapshots.insert_one(
        {"organizationId": bench.organization, "isArchived": False, "createdAt": bench.ago(days=2)}
    )
    Checkpoints(bench.connections).set("expiry", {"lookedAt": bench.ago(hours=-5)})
    assert Expiry(bench.service).accept_due(Budget(5)) == 1


@pytest.mark.usefixtures("indexed")
@pytest.mark.parametrize("name", ["restUntil", "pausedUntil"])
def test_counts_are_compared_although_the_rest_between_two_comparisons_is_dated_ahead(bench: Bench, name: str) -> None:
    CountUpkeep(bench.service)()
    kept = counts_of(bench.connections)
    rest = {"restUntil": bench.ago(seconds=1), name: bench.ago(hours=-5)}
    kept.update_one({"_id": CHECK}, {"$set": {**rest, "turnSince": None}})
    CountUpkeep(bench.service)()
    assert (kept.find_one({"_id": CHECK}) or {})["turnSince"], "a new turn has begun"
