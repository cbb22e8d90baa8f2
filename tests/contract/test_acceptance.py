"""Workers are woken before an accepted request is durable; its receipt, and any outcome, wait until it is."""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
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
from worker.domain.ledger_entry import LedgerEntry
from worker.errors import AcceptUnknown
from worker.service import Receipt
from worker.settings import Settings
from worker.stores import acceptance
from worker.stores.acceptance import PAUSE_SECONDS

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


def pause() -> None:
    """Wait for as long as a producer must pause before a request of its own wakes a worker early."""
    time.sleep(2 * PAUSE_SECONDS)


def test_worker_is_woken_before_the_request_is_durable_and_the_receipt_waits(own_bench: Bench) -> None:
    contact = own_bench.contact()
    own_bench.accepted(own_bench.asked(contact, "warm"))
    pause()
    with journal_stopped(own_bench), pytest.raises(AcceptUnknown):
        own_bench.service.submit(own_bench.asked(contact, "a"))
    assert len(own_bench.published.ids) == 1
    again = own_bench.service.submit(own_bench.asked(contact, "a"))
    assert (str(again.id), again.created) == (own_bench.published.ids[0], False)


def test_requests_that_follow_each_other_take_one_command_each(
    own_bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acceptance, "PAUSE_SECONDS", 60)  # however slow the machine is
    contact = own_bench.contact()
    own_bench.accepted(own_bench.asked(contact, "first"))
    with journal_stopped(own_bench), pytest.raises(AcceptUnknown):
        own_bench.service.submit(own_bench.asked(contact, "second"))
    assert own_bench.published.ids == []  # the insert waits until it is durable


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
    pause()
    with failing(mongo_client, ["insert"], writeConcernError=NOT_MAJORITY):
        receipt = bench.service.submit(bench.asked(contact))
    assert bench.published.ids == [str(receipt.id)]


def test_nobody_is_woken_for_a_known_request(bench: Bench) -> None:
    contact = bench.contact()
    first = bench.service.submit(bench.asked(contact, "a"))
    pause()
    again = bench.service.submit(bench.asked(contact, "a"))
    assert (again.id, again.created) == (first.id, False)
    assert bench.published.ids == [str(first.id)]


def test_first_of_two_with_one_key_in_a_batch_is_woken(bench: Bench) -> None:
    contact = bench.contact()
    woken: list[ObjectId] = []
    twice = [bench.asked(contact, "a") for _ in range(2)]
    receipts = bench.service.accept(twice, wake=lambda entries: woken.extend(entry["_id"] for entry in entries))
    assert [each.id for each in receipts if isinstance(each, Receipt)] == woken * 2


def test_entry_that_is_gone_when_it_is_confirmed_was_not_accepted(bench: Bench) -> None:
    """It stands for a new primary that lacks the entry."""

    def remove(entries: Sequence[LedgerEntry]) -> None:
        bench.database.snapshotrequests.delete_one({"_id": entries[0]["_id"]})

    (answer,) = bench.service.accept([bench.asked(bench.contact())], wake=remove)
    assert isinstance(answer, AcceptUnknown)


def test_error_while_workers_are_woken_does_not_hide_that_the_request_is_accepted(bench: Bench) -> None:
    def fail(_: Sequence[LedgerEntry]) -> None:
        raise ZeroDivisionError

    (answer,) = bench.service.accept([bench.asked(bench.contact())], wake=fail)
    assert isinstance(answer, Receipt)


def test_many_requests_are_durable_before_workers_are_woken(own_bench: Bench) -> None:
    contact = own_bench.contact()
    own_bench.accepted(own_bench.asked(contact, "warm"))
    pause()
    woken: list[LedgerEntry] = []
    with journal_stopped(own_bench):
        answers = own_bench.service.accept([own_bench.asked(contact) for _ in range(5)], wake=woken.extend)
    assert [type(each) for each in answers] == [AcceptUnknown] * 5
    assert not woken


def test_two_requests_with_one_key_wait_for_a_slow_journal(own_bench: Bench) -> None:
    contact = own_bench.contact()
    own_bench.accepted(own_bench.asked(contact, "warm"))
    pause()
    twice = [own_bench.asked(contact, "a") for _ in range(2)]
    woken: list[LedgerEntry] = []
    with ThreadPoolExecutor(1) as producer:
        with journal_stopped(own_bench):
            answers = producer.submit(own_bench.service.accept, twice, wake=woken.extend)
            with pytest.raises(FutureTimeout):
                answers.result(1)
        assert {each.id for each in answers.result(20) if isinstance(each, Receipt)} == {woken[0]["_id"]}
    assert len(woken) == 1


def test_nothing_is_inserted_long_after_the_tombstones_were_read(settings: Settings) -> None:
    with bench_on(settings.model_copy(update={"run_deadline": timedelta(seconds=1)})) as bench:
        bench.accepted(bench.asked(bench.contact(), "warm"))

        def freeze(entries: Sequence[LedgerEntry]) -> list[None]:
            time.sleep(1.2)
            return [None] * len(entries)

        answer: object
        try:
            (answer,) = bench.service.accept([bench.asked(bench.contact(), "late")], freeze)
        except AcceptUnknown as error:
            answer = error
        assert isinstance(answer, AcceptUnknown)
        assert bench.database.snapshotrequests.count_documents({"requestId": "late"}) == 0
