"""Counts by organization that do not grow with the ledger: exact at every moment, compared, and corrected."""

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId

from support.erasing import Erasing, erasing_bench, person
from support.ledger import Bench
from worker.closings.policies import Policies
from worker.doctor.process_checks import check_ledger
from worker.errors import NotFound
from worker.jobs.slices import run_slice
from worker.jobs.store import Jobs
from worker.runs.run import Run
from worker.settings import Settings
from worker.stores import indexes
from worker.stores.counts import FOLD, counts_of, identities_of, known_within, reached_at, totals
from worker.stores.folding import MAX_REQUESTS, fold
from worker.stores.stats import Identity, at_one_moment, identities, identities_within
from worker.sweep import counting
from worker.sweep.counting import CountUpkeep
from worker.sweep.expiry import ExpiryJob
from worker.sweep.retention import Retention


@pytest.fixture
def bench(settings: Settings, tmp_path: Path) -> Iterator[Bench]:
    with erasing_bench(settings, tmp_path) as made:
        indexes.ensure(made.connections)
        settle(made)
        yield made


def settle(bench: Bench) -> None:
    """Lets time pass until nothing recent is left, and a sweep count."""
    bench.advance(minutes=1)
    CountUpkeep(bench.service)()


@contextmanager
def others(bench: Bench, count: int) -> Iterator[list[Bench]]:
    """Stand for other processes in the same organization, with the same clock."""
    with ExitStack() as stack:
        made = [bench.another() for _ in range(count)]
        for other in made:
            stack.callback(other.connections.close)
            other.service.clock = other.connections.clock = bench.connections.clock
        yield made


def both(bench: Bench) -> tuple[list[Identity], list[Identity]]:
    """The kept counts and the full count of one moment."""

    def read(session: Any) -> tuple[list[Identity], list[Identity]]:
        reached = reached_at(bench.connections, session)
        assert reached
        known = identities_of(known_within(bench.connections, session, reached, None))
        return known, identities_within(bench.connections, session)

    return at_one_moment(bench.connections, read)


def agree(bench: Bench) -> None:
    known, full = both(bench)
    assert known == full
    assert all(each.holds for each in known)
    counted = totals(bench.connections)
    assert counted.verified_since
    assert (counted.mismatches, counted.identities) == (0, full)
    mine = [each for each in full if each.organization == bench.organization]
    assert totals(bench.connections, bench.organization).identities == mine


def of_both_outcomes(bench: Bench, completed: int, failed: int) -> tuple[list[ObjectId], list[ObjectId]]:
    """Requests that have completed, and requests that have failed because their conversations are empty."""
    done = bench.chunk(completed), bench.chunk(failed, messages=0)
    for keys in done:
        Run(bench.service)(keys)
    return done


def erase(bench: Bench) -> None:
    contact = person(bench)
    keys = bench.accepted(*(bench.asked(contact, conversationId=bench.conversation(contact)) for _ in range(3)))
    Run(bench.service)(keys[:2])
    settle(bench)
    Run(bench.service)(keys[2:])
    Erasing(bench).run(contact)


def strip(bench: Bench) -> None:
    Retention(bench.service).strip(bench.ago(days=1), bench.ago(seconds=30), 500)


def expire(bench: Bench) -> None:
    Policies(bench.connections).set(bench.organization, {"keepFor": ["1d"]})
    made = bench.database.trainingsnapshots
    if old := made.find_one({"organizationId": bench.organization}):
        made.update_one({"_id": old["_id"]}, {"$set": {"createdAt": bench.ago(days=2)}})
    jobs = Jobs(bench.service)
    begin = {"phase": "records", "ids": b"", "removed": {}}
    job = jobs.accept("retention", bench.organization, {}, checkpoint=begin)
    run_slice(jobs, job.id, "test", ExpiryJob(jobs), ExpiryJob(jobs).clean_up)


def test_counts_are_exact_after_each_of_many_changes(bench: Bench) -> None:
    dice = random.Random(7)
    completed: list[ObjectId] = []
    failed: list[ObjectId] = []

    def ask() -> None:
        bench.organization = dice.choice(organizations)
        more = of_both_outcomes(bench, dice.randint(1, 12), dice.randint(1, 3))
        completed.extend(more[0])
        failed.extend(more[1])
        bench.chunk(dice.randint(0, 2))

    def redrive() -> None:
        again = bench.service.redrive(dice.sample(failed, min(2, len(failed))))
        if dice.random() < 0.5:
            Run(bench.service)([entry["_id"] for entry in again])

    def delete() -> None:
        if completed:
            key = completed.pop(dice.randrange(len(completed)))
            with suppress(NotFound):  # it has expired
                bench.service.delete(bench.entry(key)["organizationId"], key)

    organizations = [bench.organization, ObjectId()]
    changes: list[Callable[[], None]] = [
        ask,
        ask,
        redrive,
        delete,
        *(partial(each, bench) for each in (settle, erase, strip, expire)),
    ]
    ask()
    for _ in range(40):
        dice.choice(changes)()
        agree(bench)
    settle(bench)
    agree(bench)
    assert counts_of(bench.connections).count_documents({"finishedAt": {"$ne": None}}) == 0  # all changes are added


def test_counts_are_exact_while_requests_are_redriven_deleted_and_added(bench: Bench) -> None:
    completed, failed = of_both_outcomes(bench, 120, 60)
    bench.advance(seconds=45)

    def redrive(other: Bench) -> None:
        for key in failed:
            assert other.service.redrive([key])

    def delete(other: Bench) -> None:
        for key in completed:
            other.service.delete(other.organization, key)

    def add(other: Bench) -> None:
        while fold(other.connections, 7):
            pass

    seen = 0
    with others(bench, 3) as processes, ThreadPoolExecutor(3) as pool:
        work = [pool.submit(each, other) for each, other in zip((redrive, delete, add), processes, strict=True)]
        while not all(each.done() for each in work) or not seen:
            known, full = both(bench)
            assert known == full
            assert all(each.holds for each in known)
            seen += 1
        for each in work:
            each.result()
    settle(bench)
    agree(bench)
    (mine,) = totals(bench.connections).identities
    assert (mine.completed, mine.deleted, mine.failed, mine.in_flight, mine.snapshots) == (120, 120, 0, 60, 0)


def test_a_fold_adds_no_more_than_it_may_and_several_at_once_add_nothing_twice(bench: Bench) -> None:
    for _ in range(6):
        of_both_outcomes(bench, 4, 1)
    bench.advance(minutes=1)
    assert 0 < fold(bench.connections, 5) <= 5
    with others(bench, 4) as processes, ThreadPoolExecutor(4) as pool:
        for counted in [pool.submit(CountUpkeep(other.service)) for other in processes]:
            counted.result()
    settle(bench)
    agree(bench)


def test_a_fold_removes_no_more_changes_in_one_transaction_than_it_may(bench: Bench) -> None:
    """After an outage of beat, those of a million snapshots can wait: of requests counted before, and since."""
    before, _ = of_both_outcomes(bench, 10, 1)
    settle(bench)
    since: list[ObjectId] = []
    for _ in range(5):
        since += of_both_outcomes(bench, 2, 1)[0]
        bench.advance(seconds=1)
    bench.advance(minutes=1)
    for key in [*before, *since]:
        bench.service.delete(bench.organization, key)
    changes = counts_of(bench.connections)
    waiting = {"finishedAt": {"$ne": None}}
    sizes = [changes.count_documents(waiting)]
    while sizes[-1]:
        assert fold(bench.connections, MAX_REQUESTS, 3)
        agree(bench)
        sizes.append(changes.count_documents(waiting))
    assert sizes[0] == 20
    assert max(more - less for more, less in pairwise(sizes)) <= 3 + 3  # a transaction for either kind


def test_wrong_counts_are_found_reported_and_corrected(bench: Bench) -> None:
    of_both_outcomes(bench, 3, 2)
    settle(bench)
    stranger = ObjectId()
    counts = counts_of(bench.connections)
    counts.update_one({"_id": bench.organization}, {"$inc": {"counts.completed": 2, "counts.failed": -1}})
    counts.insert_one({"_id": stranger, "organizationId": stranger, "counts": {"failed": 1}})
    assert [each.holds for each in totals(bench.connections, bench.organization).identities] == [False]

    for _ in range(4):
        settle(bench)

    counted = totals(bench.connections)
    assert counted.mismatches == 2
    assert counted.last_mismatch
    assert counted.last_mismatch["organizationId"] in {bench.organization, stranger}
    assert counted.identities == identities(bench.connections)
    assert [each.holds for each in counted.identities] == [True]
    (warned,) = [each for each in check_ledger(bench.connections) if each.level == "warning"]
    assert "were wrong, and were corrected" in warned.message


def test_a_snapshot_that_something_else_removed_breaks_the_identity_once_its_turn_comes(bench: Bench) -> None:
    completed, _ = of_both_outcomes(bench, 3, 1)
    settle(bench)
    bench.database.trainingsnapshots.delete_one({"_id": completed[0]})
    for _ in range(3):
        settle(bench)
    (mine,) = totals(bench.connections).identities
    assert (mine.snapshots, mine.holds) == (2, False)


def test_an_old_ledger_is_counted_in_full_until_every_organization_was(bench: Bench) -> None:
    for _ in range(5):
        bench.organization = ObjectId()
        of_both_outcomes(bench, 2, 1)
    bench.advance(minutes=1)
    bench.database.snapshotcounts.delete_many({})
    for _ in range(10):
        counted = totals(bench.connections)
        assert counted.identities == identities(bench.connections)
        if counted.verified_since:
            break
        CountUpkeep(bench.service)()
    assert counted.verified_since
    assert counted.mismatches == 0


def test_a_comparison_that_takes_too_long_is_postponed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    of_both_outcomes(bench, 3, 2)
    settle(bench)
    counts = counts_of(bench.connections)
    counts.update_one({"_id": bench.organization}, {"$inc": {"counts.failed": 1}})
    bench.advance(minutes=1)
    with monkeypatch.context() as patch:
        patch.setattr(counting, "_MAX_SECONDS", 0.0001)
        CountUpkeep(bench.service)()
    CountUpkeep(bench.service)()  # too early
    assert totals(bench.connections).mismatches == 0
    settle(bench)
    assert totals(bench.connections).mismatches == 1


def test_without_sweeps_everything_is_counted_in_full(bench: Bench) -> None:
    of_both_outcomes(bench, 2, 1)
    settle(bench)
    assert totals(bench.connections).verified_since
    bench.database.snapshotcounts.update_one({"_id": FOLD}, {"$set": {"reached": bench.ago(minutes=10)}})
    counted = totals(bench.connections)
    assert counted.verified_since is None
    assert counted.identities == identities(bench.connections)


def test_an_organization_that_is_new_is_counted_at_once(bench: Bench) -> None:
    settle(bench)
    bench.organization = ObjectId()
    of_both_outcomes(bench, 2, 1)
    agree(bench)
