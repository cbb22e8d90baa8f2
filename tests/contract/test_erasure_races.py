"""Erasures, holds and their end that happen at the same time."""

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pymongo
import pytest
from bson import ObjectId

from support.erasing import Erasing, celery_message, erasing_bench, left_of, person
from support.ledger import Bench
from worker.erasure import accepting, holds
from worker.erasure.accepting import ErasureInProgress, accept_erasure, lift
from worker.erasure.holds import Holds, LegalHold
from worker.errors import ContactErased, StoreConflict, StoreUnavailable
from worker.jobs.job import Job
from worker.jobs.store import Jobs
from worker.runs.run import Run
from worker.settings import Settings
from worker.stores.stats import identities
from worker.stores.tombstones import Lookup


@pytest.fixture
def bench(settings: Settings, tmp_path: Path) -> Iterator[Bench]:
    with erasing_bench(settings, tmp_path) as made:
        made.service.clock.now()
        yield made


def once(work: Callable[[], object]) -> Callable[[], None]:
    """Do the work at the first call only."""
    left = [work]

    def first() -> None:
        if left:
            left.pop()()

    return first


def before_transaction(monkeypatch: pytest.MonkeyPatch, module: Any, work: Callable[[], object]) -> None:
    """Let something happen before the next transaction of a module begins."""
    run, first = module.in_transaction, once(work)

    def interrupted(*arguments: Any) -> Any:
        first()
        return run(*arguments)

    monkeypatch.setattr(module, "in_transaction", interrupted)


def test_hold_that_is_set_while_an_erasure_is_accepted_is_kept(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    contact = person(bench)
    one, until = (bench.organization, contact), bench.service.clock.now() + timedelta(days=1)
    before_transaction(monkeypatch, accepting, lambda: Holds(bench.service).set(one, "case 17", until))
    with pytest.raises(LegalHold):
        Erasing(bench).accept(contact)
    assert [each.reason for each in Holds(bench.service).list()] == ["case 17"]
    assert bench.database.snapshoterasures.count_documents({"erasedAt": {"$exists": True}}) == 0
    assert bench.database.snapshotjobs.count_documents({}) == 0


def test_no_hold_is_set_on_a_contact_that_is_erased_meanwhile(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    contact = person(bench)
    one, until = (bench.organization, contact), bench.service.clock.now() + timedelta(days=1)
    before_transaction(monkeypatch, holds, lambda: Erasing(bench).accept(contact))
    with pytest.raises(ContactErased):
        Holds(bench.service).set(one, "case 17", until)
    assert bench.database.snapshotholds.count_documents({}) == 0


def test_either_the_hold_or_the_erasure_of_many_pairs_wins(bench: Bench) -> None:
    until = bench.service.clock.now() + timedelta(days=1)
    people = [person(bench) for _ in range(20)]
    refused: dict[str, set[ObjectId]] = {"hold": set(), "erasure": set()}

    def all_of(name: str, one: Callable[[ObjectId], object], error: type[Exception]) -> None:
        for contact in people:
            try:
                one(contact)
            except error:
                refused[name].add(contact)

    hold = Holds(bench.service)
    pairs = [
        ("hold", lambda contact: hold.set((bench.organization, contact), "case", until), ContactErased),
        ("erasure", Erasing(bench).accept, LegalHold),
    ]
    threads = [threading.Thread(target=all_of, args=pair) for pair in pairs]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert refused["hold"] | refused["erasure"] == set(people)
    assert not refused["hold"] & refused["erasure"]
    assert {each.contact for each in hold.list()} == refused["erasure"]


def test_erasure_in_progress_is_not_lifted(bench: Bench) -> None:
    contact = person(bench)
    erasing = Erasing(bench)
    job = erasing.accept(contact)
    with pytest.raises(ErasureInProgress):
        lift(Jobs(bench.service), bench.organization, contact)
    assert erasing.finish(job).status == "completed"
    lift(Jobs(bench.service), bench.organization, contact)
    assert erasing.run(contact).status == "completed"
    with pytest.raises(ContactErased):
        raise bench.service.accept([bench.asked(contact)])[0]  # type: ignore[misc]


def test_two_erasures_of_a_contact_at_once_are_one(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    contact = person(bench)
    first = []
    before_transaction(monkeypatch, accepting, lambda: first.append(Erasing(bench).accept(contact)))
    assert Erasing(bench).accept(contact).id == first[0].id
    assert bench.database.snapshotjobs.count_documents({}) == 1


def test_snapshot_of_the_platform_with_another_kind_of_id_is_erased(bench: Bench) -> None:
    contact = person(bench)
    (key,) = bench.accepted(bench.asked(contact, conversationId=bench.conversation(contact)))
    Run(bench.service)([key])
    made = bench.database.trainingsnapshots.find_one({"_id": key})
    bench.database.trainingsnapshots.insert_many([{**made, "_id": odd} for odd in ("text", 7)])
    done = Erasing(bench).run(contact)
    assert done.status == "completed", done.error
    assert (done.result or {})["receipt"]["removed"]["snapshots"] == 3
    assert bench.database.trainingsnapshots.count_documents({}) == 0


def test_request_that_was_overtaken_is_found_by_the_search_after_the_settling(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    contact = person(bench)
    erasing = Erasing(bench, settle=timedelta(minutes=5))
    job = erasing.accept(contact)
    for _ in range(3):
        job = erasing.slice(job)
    assert (job.status, (job.progress or {})["phase"]) == ("running", "settle")
    # A process that had looked before the tombstone inserts its request and emits an event now.
    with monkeypatch.context() as late:
        late.setattr(Lookup, "erased", lambda *_: set())
        (key,) = bench.accepted(bench.asked(contact, conversationId=bench.conversation(contact)))
        Run(bench.service)([key])
    assert set(bench.snapshots()) == {key}
    bench.advance(minutes=6)
    job = _finished(bench, erasing, job)
    assert job.status == "completed"
    assert left_of(bench, contact) == []
    (identity,) = identities(bench.connections, bench.organization)
    assert identity.holds


def _finished(bench: Bench, erasing: Erasing, job: Job) -> Job:
    for _ in range(20):
        if (job := erasing.slice(job)).is_finished:
            break
        bench.advance(minutes=6)
    return job


def test_job_that_a_failover_may_roll_back_counts_as_none(bench: Bench, mongo_client: pymongo.MongoClient[Any]) -> None:
    """As on a primary that lost its majority while an erasure was accepted, and is asked for it again."""
    contact = person(bench)
    jobs = Erasing(bench).jobs
    accept_erasure(jobs, bench.organization, contact)
    (job,) = jobs.collection.find()
    jobs.collection.delete_one({"_id": job["_id"]})
    freeze = mongo_client.admin.command
    freeze("configureFailPoint", "disableSnapshotting", mode="alwaysOn")  # nothing becomes majority committed
    try:
        jobs.collection.with_options(write_concern=pymongo.WriteConcern(1)).insert_one(job)
        with pymongo.timeout(2), pytest.raises((StoreUnavailable, StoreConflict)):
            accept_erasure(jobs, bench.organization, contact)
    finally:
        freeze("configureFailPoint", "disableSnapshotting", mode="off")
    assert accept_erasure(jobs, bench.organization, contact).id == job["_id"]


def test_message_that_a_worker_moves_to_the_other_queue_is_found(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a listener, workers move the messages of a flood to the bulk queue, which may have been searched."""
    contact = person(bench)
    client: Any = bench.connections.redis
    message = celery_message({"organizationId": str(bench.organization), "contactId": str(contact)})
    calls: list[int] = []

    def scan(cursor: int, **_: Any) -> tuple[int, list[bytes]]:
        """In the last search, the message is in each queue while the other one is searched."""
        calls.append(cursor)
        if len(calls) == 3:
            client.lpush("snapshots", message)
        if len(calls) == 4:
            client.lmove("snapshots", "snapshots.bulk", "RIGHT", "LEFT")
        return (0, [b"snapshots"]) if cursor else (1, [b"snapshots.bulk"])

    monkeypatch.setattr(client, "scan", scan)
    assert Erasing(bench).run(contact).status == "completed"
    assert len(calls) >= 4
    assert client.llen("snapshots.bulk") == 0
