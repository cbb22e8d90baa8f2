"""Figures and lists for operators, on a real MongoDB."""

from datetime import timedelta
from typing import Any

import pytest
from bson import ObjectId

from support.contacts import contact_with
from support.pipeline import accept, run_accepted
from worker.domain.ledger_entry import with_fields
from worker.errors import NotFound
from worker.service import Service
from worker.stores.queries import (
    RequestFilter,
    count_redrivable,
    list_requests,
    redrivable,
    request_by_id,
    request_by_key,
)
from worker.stores.stats import as_fields, identities, identity_pipeline, oldest_request


@pytest.fixture
def organization(service: Service) -> ObjectId:
    """An organization with 2 completed (1 deleted), 3 failed and 1 open request, and another organization."""
    database = service.connections.database
    contact = contact_with(database, 2, 1, 0, 0, 0)
    for number, conversation in enumerate(contact.conversations):
        accept(service, contact.organization, contact.id, f"r{number}", conversationId=conversation)
    other = contact_with(database, 1)
    accept(service, other.organization, other.id, "other")
    run_accepted(service)
    accept(service, contact.organization, contact.id, "waits")
    done = request_by_key(service.connections, contact.organization, "r0")
    service.delete(contact.organization, done["_id"])
    return contact.organization


def test_identity_counts_each_outcome_and_the_snapshots(service: Service, organization: ObjectId) -> None:
    (mine,) = identities(service.connections, organization)
    assert as_fields(mine) == {
        "organizationId": organization,
        "accepted": 6,
        "completed": 2,
        "failed": 3,
        "deleted": 1,
        "unchanged": 0,
        "snapshots": 1,
        "inFlight": 1,
        "holds": True,
    }
    everyone = identities(service.connections)
    assert [each.holds for each in everyone] == [True, True]
    assert mine in everyone


def test_identity_does_not_hold_for_a_snapshot_that_no_request_explains(
    service: Service, organization: ObjectId
) -> None:
    service.snapshots.collection.insert_one({"organizationId": organization, "requestId": "of no request"})
    assert [each.holds for each in identities(service.connections, organization)] == [False]


def test_identity_does_not_hold_for_a_completed_request_without_its_snapshot(
    service: Service, organization: ObjectId
) -> None:
    service.snapshots.collection.delete_many({"organizationId": organization})
    assert [each.holds for each in identities(service.connections, organization)] == [False]


def test_identity_counts_completed_requests_that_made_no_copy(service: Service, organization: ObjectId) -> None:
    entry = request_by_key(service.connections, organization, "r1")
    copy = with_fields(entry, _id=ObjectId(), requestId="again", unchanged=True)
    service.ledger.collection.insert_one(copy)
    (mine,) = identities(service.connections, organization)
    assert (mine.unchanged, mine.holds) == (1, True)


@pytest.mark.parametrize("named", [True, False], ids=["organization", "everyone"])
def test_identity_is_counted_in_indexes_without_documents(
    service: Service, organization: ObjectId, named: bool
) -> None:
    names = service.settings
    first, second, union = identity_pipeline(names, organization if named else None)
    for collection, pipeline in (
        (names.requests_collection, [first, second]),
        (names.snapshots_collection, union["$unionWith"]["pipeline"]),
    ):
        command: Any = {"aggregate": collection, "pipeline": pipeline, "cursor": {}}
        said = service.connections.database.command("explain", command, verbosity="queryPlanner")
        planned = said if "queryPlanner" in said else said["stages"][0]["$cursor"]
        plan = str(planned["queryPlanner"]["winningPlan"])
        assert "PROJECTION_COVERED" in plan
        assert "FETCH" not in plan


@pytest.mark.parametrize("named", [True, False], ids=["organization", "everyone"])
@pytest.mark.parametrize(
    "given", [{}, {"status": "accepted"}, {"status": "failed"}, {"code": "empty_conversation"}], ids=str
)
def test_no_list_reads_or_sorts_the_whole_ledger(
    service: Service, organization: ObjectId, named: bool, given: dict[str, Any]
) -> None:
    which = RequestFilter(organization=organization if named else None, **given)
    cursor: Any = service.ledger.collection.find(which.condition()).sort("_id", -1).limit(5)
    assert "COLLSCAN" not in str(cursor.explain()["queryPlanner"]["winningPlan"])


def test_pages_of_requests_are_newest_first_and_complete(service: Service, organization: ObjectId) -> None:
    which, after, seen = RequestFilter(organization=organization), None, []
    while True:
        page, after = list_requests(service.connections, which, 4, after)
        seen += [each["_id"] for each in page]
        if after is None:
            break
    assert seen == sorted(seen, reverse=True)
    assert len(set(seen)) == len(seen) == 6


def test_filters_find_by_status_code_and_time(service: Service, organization: ObjectId) -> None:
    now = service.clock.now()

    def ids(**given: Any) -> list[str]:
        found, _ = list_requests(service.connections, RequestFilter(organization=organization, **given), 100)
        return sorted(each["requestId"] for each in found)

    assert ids(status="accepted") == ["waits"]
    assert ids(status="completed") == ["r0", "r1"]
    assert ids(code="empty_conversation") == ["r2", "r3", "r4"]
    assert ids(code="worker_lost") == []
    assert ids(since=now + timedelta(hours=1)) == ids(status="failed", since=now + timedelta(hours=1)) == []
    assert len(ids(since=now - timedelta(hours=1))) == 6
    assert ids(status="failed", since=now - timedelta(hours=1)) == ["r2", "r3", "r4"]


def test_a_request_of_another_organization_is_not_found(service: Service, organization: ObjectId) -> None:
    entry = request_by_key(service.connections, organization, "r1")
    assert request_by_id(service.connections, entry["_id"], organization) == entry
    with pytest.raises(NotFound):
        request_by_id(service.connections, entry["_id"], ObjectId())
    with pytest.raises(NotFound):
        request_by_key(service.connections, ObjectId(), "r1")


def test_redrivable_requests_come_once_each_without_those_whose_event_is_not_out(
    service: Service, organization: ObjectId
) -> None:
    which = RequestFilter(organization=organization, status="failed")
    unsent = request_by_key(service.connections, organization, "r3")
    service.ledger.collection.update_one({"_id": unsent["_id"]}, {"$set": {"unsent": True}})
    assert count_redrivable(service.connections, which) == 2
    redriven = []
    for batch in redrivable(service.connections, which, 1):
        redriven += service.redrive(batch)
        run_accepted(service)  # it fails again, and is not to come again
    assert sorted(each["requestId"] for each in redriven) == ["r2", "r4"]


def test_oldest_request_is_the_one_that_has_waited_longest(service: Service, organization: ObjectId) -> None:
    waits = request_by_key(service.connections, organization, "waits")
    assert oldest_request(service.connections) == waits["acceptedAt"]
    assert oldest_request(service.connections, ObjectId()) is None
    service.ledger.collection.update_one({"_id": waits["_id"]}, {"$unset": {"queue": ""}})
    assert oldest_request(service.connections) is None  # not due yet
