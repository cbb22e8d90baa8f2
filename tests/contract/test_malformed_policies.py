"""A policy that another program has written with faulty fields affects no other organization."""

from bson import ObjectId

from support.ledger import Bench
from worker.closings.policies import Policies
from worker.sweep.budget import Budget
from worker.sweep.expiry import Expiry


def test_snapshots_of_others_expire_although_a_policy_has_fields_of_the_wrong_types(bench: Bench) -> None:
    first = ObjectId("0" * 24)
    bench.database.snapshotpolicies.insert_many(
        [{"keepFor": ["1d"]}, {"organizationId": first, "keepFor": ["1d"], "updatedAt": "2026-05-13"}]
    )
    Policies(bench.connections).set(bench.organization, {"keepFor": ["1d"]})
    bench.database.trainingsnapshots.insert_many(
        {"organizationId": organization, "isArchived": False, "createdAt": bench.ago(days=2)}
        for organization in (first, bench.organization)
    )
    assert Expiry(bench.service).accept_due(Budget(5)) == 2
