"""The ledger: an accepted request is durable and accepted once."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any

import pymongo
import pytest
from bson import ObjectId

from support.faults import failing
from support.ledger import Bench, bench_on
from worker.errors import AcceptUnknown, NotFound, RequestIdConflict, SnapshotDeleted, SnapshotError, StoreUnavailable
from worker.runs.run import Run
from worker.service import Receipt
from worker.settings import Settings
from worker.stores.redriving import redrive

NOT_MAJORITY = {"code": 64, "codeName": "WriteConcernFailed", "errmsg": "waiting for replication timed out"}


def receipts(found: list[Receipt | SnapshotError]) -> list[Receipt]:
    assert all(isinstance(each, Receipt) for each in found), found
    return [each for each in found if isinstance(each, Receipt)]


def test_same_request_id_from_50_producers_is_one_entry(bench: Bench) -> None:
    contact = bench.contact()
    together = Barrier(50)

    def ask(_: int) -> Receipt:
        together.wait(20)
        return bench.service.submit(bench.asked(contact, "the-same"))

    with ThreadPoolExecutor(50) as producers:
        answers = list(producers.map(ask, range(50)))
    assert len({each.id for each in answers}) == 1
    assert [each.created for each in answers].count(True) == 1
    assert bench.database.snapshotrequests.count_documents({}) == 1
    assert bench.published.ids == [str(answers[0].id)]


def test_duplicates_within_a_batch_are_the_first_request(bench: Bench) -> None:
    contact = bench.contact()
    first, other, again, differs = bench.service.accept(
        [
            bench.asked(contact, "a"),
            bench.asked(contact, "b"),
            bench.asked(contact, "a"),
            bench.asked(contact, "a", notes="another"),
        ]
    )
    one, two, three = receipts([first, other, again])
    assert (one.created, two.created, three.created) == (True, True, False)
    assert three.id == one.id != two.id
    assert isinstance(differs, RequestIdConflict)


def test_same_request_id_of_another_organization_is_another_request(bench: Bench) -> None:
    contact = bench.contact()
    (mine,) = bench.accepted(bench.asked(contact, "a"))
    bench.organization = ObjectId()
    (theirs,) = bench.accepted(bench.asked(contact, "a"))
    assert mine != theirs


def test_producer_before_any_worker_still_gets_a_unique_request_id(settings: Settings) -> None:
    with bench_on(settings) as first:
        first.database.drop_collection("snapshotrequests")
        other = first.another()
        other.database.drop_collection("snapshotrequests")
        try:
            contact = first.contact()
            assert first.accepted(first.asked(contact, "a")) == other.accepted(other.asked(contact, "a"))
        finally:
            other.connections.close()


# --- durable, or not accepted ----------------------------------------------------------------------------------


def test_write_concern_error_is_an_accept_only_if_it_is_read_back_at_majority(
    bench: Bench, mongo_client: pymongo.MongoClient[Any]
) -> None:
    contact = bench.contact()
    with failing(mongo_client, ["insert"], writeConcernError=NOT_MAJORITY):
        found = bench.service.accept([bench.asked(contact, f"r{number}") for number in range(3)])
    for each in receipts(found):
        assert bench.service.ledger.load([each.id])


def test_duplicate_key_that_cannot_be_read_back_is_not_an_accept(
    bench: Bench, mongo_client: pymongo.MongoClient[Any]
) -> None:
    contact = bench.contact()
    bench.accepted(bench.asked(contact, "known"))
    ledger = f"{bench.database.name}.{bench.service.settings.requests_collection}"
    with failing(mongo_client, ["find"], errorCode=13, namespace=ledger):
        with pytest.raises(AcceptUnknown):
            bench.service.accept([bench.asked(contact, "known")])
        unknown, new = bench.service.accept([bench.asked(contact, "known"), bench.asked(contact, "new")])
    assert isinstance(unknown, AcceptUnknown)
    assert isinstance(new, Receipt)


def test_duplicate_beside_a_write_concern_error_is_read_back(
    bench: Bench, mongo_client: pymongo.MongoClient[Any]
) -> None:
    contact = bench.contact()
    (known,) = bench.accepted(bench.asked(contact, "known"))
    with failing(mongo_client, ["insert"], writeConcernError=NOT_MAJORITY):
        again, new = receipts(bench.service.accept([bench.asked(contact, "known"), bench.asked(contact, "new")]))
    assert again.id == known
    assert (again.created, new.created) == (False, True)


def test_broken_connection_during_the_insert_is_settled_by_reading(
    bench: Bench, mongo_client: pymongo.MongoClient[Any]
) -> None:
    contact = bench.contact()
    bench.accepted(bench.asked(contact, "warm"))
    with failing(mongo_client, ["insert"], {"times": 1}, closeConnection=True):
        (receipt,) = receipts(bench.service.accept([bench.asked(contact, "a")]))
    assert bench.entry(receipt.id)["requestId"] == "a"


def test_insert_that_never_arrives_is_not_an_accept(bench: Bench, mongo_client: pymongo.MongoClient[Any]) -> None:
    contact = bench.contact()
    bench.accepted(bench.asked(contact, "warm"))
    hasty = bench.another(run_deadline=timedelta(seconds=3))
    try:
        with failing(mongo_client, ["insert"], closeConnection=True):
            try:
                (answer,) = hasty.service.accept([hasty.asked(contact, "a")])
            except (AcceptUnknown, StoreUnavailable) as error:
                answer = error
        assert isinstance(answer, AcceptUnknown | StoreUnavailable)
        assert bench.database.snapshotrequests.count_documents({"requestId": "a"}) == 0
        assert receipts(hasty.service.accept([hasty.asked(contact, "a")]))[0].created
    finally:
        hasty.connections.close()


# --- redrive, delete, retention -----------------------------------------------------------------------------------


def test_redrive_grows_the_round_and_the_event_id(bench: Bench) -> None:
    contact = bench.contact()
    (key,) = bench.accepted(bench.asked(contact))
    Run(bench.service)([key])
    assert bench.entry(key)["error"]["code"] == "empty_conversation"
    bench.conversation(contact, 2)
    (again,) = bench.service.redrive([key])
    assert (again["status"], again["round"], again["unended"]) == ("accepted", 1, 0)
    assert "error" not in again
    assert bench.published.chunks == [("snapshots.bulk", [str(key)])]
    Run(bench.service)([key])
    assert [(each["id"], each["type"]) for each in bench.events()] == [
        (f"{key}.0", "training.snapshot.failed"),
        (f"{key}.1", "training.snapshot.completed"),
    ]


def test_redrive_leaves_out_what_is_unsent_or_not_failed(bench: Bench) -> None:
    contact = bench.contact()
    bench.conversation(contact, 1)
    unsent, completed, accepted = bench.accepted(*(bench.asked(contact) for _ in range(3)))
    Run(bench.service)([completed])
    bench.change([unsent], status="failed", unsent=True, finishedAt=bench.ago(seconds=1))
    before = bench.entries([unsent, completed, accepted])
    assert bench.service.redrive([unsent, completed, accepted, ObjectId()]) == []
    assert bench.entries([unsent, completed, accepted]) == before


def test_redrive_twice_at_once_is_one_round(bench: Bench) -> None:
    (key,) = bench.accepted(bench.asked(bench.contact()))
    Run(bench.service)([key])
    with ThreadPoolExecutor(8) as operators:
        list(operators.map(lambda _: bench.service.redrive([key]), range(8)))
    assert bench.entry(key)["round"] == 1


def test_redrives_in_the_same_millisecond_return_only_their_own_entries(bench: Bench) -> None:
    keys = bench.chunk(2)
    bench.change(keys, status="failed", error={"code": "empty_conversation"}, finishedAt=bench.ago(seconds=1))
    at = bench.service.clock.now()
    assert [entry["_id"] for entry in redrive(bench.connections, keys[:1], at, "snapshots.bulk")] == keys[:1]
    assert [entry["_id"] for entry in redrive(bench.connections, keys, at, "snapshots.bulk")] == keys[1:]


def test_deleted_snapshot_is_not_brought_back_and_its_key_says_deleted(bench: Bench) -> None:
    contact = bench.contact()
    bench.conversation(contact, 1)
    asked = bench.asked(contact, "mine")
    (key,) = bench.accepted(asked)
    Run(bench.service)([key])
    bench.service.delete(bench.organization, key)
    Run(bench.service)([key])
    assert bench.snapshots() == {}
    assert isinstance(bench.service.accept([asked])[0], SnapshotDeleted)
    with pytest.raises(NotFound):
        bench.service.delete(bench.organization, key)


def test_another_organization_cannot_delete_a_snapshot(bench: Bench) -> None:
    (key,) = bench.chunk(1)
    Run(bench.service)([key])
    with pytest.raises(NotFound):
        bench.service.delete(ObjectId(), key)
    assert key in bench.snapshots()
    assert "deletedAt" not in bench.entry(key)


def test_run_that_was_late_does_not_bring_a_deleted_snapshot_back(bench: Bench) -> None:
    """The run loads the request; then another run decides it, and the snapshot is deleted."""
    (key,) = bench.chunk(1)
    other = bench.another()
    fetch = bench.service.conversations.fetch

    def fetch_late(entries: Any) -> Any:
        Run(other.service)([key])
        other.service.delete(bench.organization, key)
        return fetch(entries)

    bench.service.conversations.fetch = fetch_late  # type: ignore[method-assign]
    try:
        outcome = Run(bench.service)([key])
    finally:
        other.connections.close()
    assert (outcome.completed, outcome.failed, outcome.postponed) == (0, 0, [])
    assert bench.snapshots() == {}
    assert "deletedAt" in bench.entry(key)
