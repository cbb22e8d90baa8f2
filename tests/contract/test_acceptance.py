"""Workers are woken before an accepted request is durable; its receipt, and any outcome, wait until it is."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pymongo
import pytest
from bson import ObjectId
from pymongo import WriteConcern

from support.faults import failing
from support.ledger import Bench, bench_on
from support.mongo_server import own_mongod
from support.waiting import eventually
from worker.errors import AcceptUnknown
from worker.service import Receipt
from worker.settings import Settings

NOT_MAJORITY = {"code": 64, "codeName": "WriteConcernFailed", "errmsg": "waiting for replication timed out"}
TEST_COMMANDS = ("--setParameter", "enableTestCommands=1")


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a replica set whose journal the tests may stop."""
    folder = Path(tmp_path_factory.mktemp("mongo"))
    with own_mongod(folder, "--replSet", "rs0", "--oplogSize", "50", *TEST_COMMANDS) as port:
        host = f"127.0.0.1:{port}"
        with pymongo.MongoClient[Any](host, directConnection=True) as client:
            client.admin.command("replSetInitiate", {"_id": "rs0", "members": [{"_id": 0, "host": host}]})
            eventually(lambda: client.admin.command("hello")["isWritablePrimary"], 60)
        yield f"mongodb://{host}/?replicaSet=rs0"


@pytest.fixture
def own_bench(own_server: str, settings: Settings) -> Iterator[Bench]:
    changed = {"mongo_url": own_server, "mongo_database": f"t{ObjectId()}", "run_deadline": timedelta(seconds=3)}
    with bench_on(settings.model_copy(update=changed)) as bench:
        bench.service.clock.now()
        yield bench


@contextmanager
def journal_stopped(bench: Bench) -> Iterator[None]:
    """Nothing becomes durable while the block lasts."""
    point = "pauseJournalFlusherBeforeFlush"
    admin = bench.connections.mongo.admin
    admin.command({"configureFailPoint": point, "mode": "alwaysOn"})
    try:
        yield
    finally:
        admin.command({"configureFailPoint": point, "mode": "off"})


def test_worker_is_woken_before_the_request_is_durable_and_the_receipt_waits(own_bench: Bench) -> None:
    contact = own_bench.contact()
    own_bench.accepted(own_bench.asked(contact, "warm"))
    with journal_stopped(own_bench), pytest.raises(AcceptUnknown):
        own_bench.service.submit(own_bench.asked(contact, "a"))
    assert len(own_bench.published.ids) == 1
    again = own_bench.service.submit(own_bench.asked(contact, "a"))
    assert (str(again.id), again.created) == (own_bench.published.ids[0], False)


def test_run_finds_a_request_that_is_not_durable_yet_but_no_such_outcome(own_bench: Bench) -> None:
    key, decided = own_bench.chunk(2)
    weak = own_bench.service.ledger.collection.with_options(write_concern=WriteConcern(w=1, j=False))
    with journal_stopped(own_bench):
        new: Any = {**own_bench.entry(key), "_id": ObjectId(), "requestId": "new"}
        weak.insert_one(new)
        weak.update_one({"_id": decided}, {"$set": {"status": "completed", "unsent": True}})
        found = {entry["_id"]: entry["status"] for entry in own_bench.service.ledger.load([new["_id"], decided])}
    assert found == {new["_id"]: "accepted", decided: "accepted"}


def test_confirmation_that_is_missing_is_replaced_by_reading_the_request(
    bench: Bench, mongo_client: pymongo.MongoClient[Any]
) -> None:
    contact = bench.contact()
    with failing(mongo_client, ["update"], writeConcernError=NOT_MAJORITY):
        receipt = bench.service.submit(bench.asked(contact))
    assert receipt.created
    assert bench.published.ids == [str(receipt.id)]


def test_worker_is_woken_once_if_the_answer_to_the_insert_is_lost(
    bench: Bench, mongo_client: pymongo.MongoClient[Any]
) -> None:
    contact = bench.contact()
    bench.accepted(bench.asked(contact, "warm"))
    with failing(mongo_client, ["insert"], writeConcernError=NOT_MAJORITY):
        receipt = bench.service.submit(bench.asked(contact))
    assert bench.published.ids == [str(receipt.id)]


def test_nobody_is_woken_for_a_known_request(bench: Bench) -> None:
    contact = bench.contact()
    first, again = (bench.service.submit(bench.asked(contact, "a")) for _ in range(2))
    assert (again.id, again.created) == (first.id, False)
    assert bench.published.ids == [str(first.id)]


def test_first_of_two_with_one_key_in_a_batch_is_woken(bench: Bench) -> None:
    contact = bench.contact()
    woken: list[ObjectId] = []
    twice = [bench.asked(contact, "a") for _ in range(2)]
    receipts = bench.service.accept(twice, wake=lambda entries: woken.extend(entry["_id"] for entry in entries))
    assert [each.id for each in receipts if isinstance(each, Receipt)] == woken * 2


def test_read_concern_of_the_url_does_not_apply_to_tombstones(settings: Settings) -> None:
    url = f"{settings.mongo_url}{'&' if '?' in settings.mongo_url else '?'}readConcernLevel=majority"
    with bench_on(settings.model_copy(update={"mongo_url": url})) as bench:
        assert bench.connections.raw_database.read_concern.level == "local"
