"""A backfill that a command runs: it hands over to the workers, watches them, and ends when it is cancelled."""

import time
from collections.abc import Sequence

import pytest

from support.contacts import Contact, contact_with
from support.ledger import Bench
from support.pipeline import run_accepted
from support.waiting import eventually
from worker.backfills import backfill, running
from worker.backfills.accepting import accept_backfill
from worker.backfills.backfill import Backfill
from worker.backfills.progress import Progress
from worker.backfills.running import Runner
from worker.errors import SnapshotError, StoreUnavailable
from worker.jobs.slices import Slice, run_slice
from worker.jobs.store import Jobs
from worker.runs.run import Run
from worker.service import NewRequest, Receipt
from worker.stores.wakeups import EXPORTS, MAINTENANCE


@pytest.fixture
def contact(bench: Bench) -> Contact:
    return contact_with(bench.database, *[1] * 35, organization=bench.organization)


def test_command_hands_over_to_the_workers_and_watches_them(bench: Bench, jobs: Jobs, contact: Contact) -> None:
    job = accept_backfill(jobs, contact.organization, {}, enqueue=False)
    assert bench.published.chunks == []
    seen: list[Progress] = []
    left = Runner(jobs, seen.append)(job.id, 0.2)
    assert (left.status, Progress.of(left).requests) == ("running", 35)
    assert bench.published.chunks[-1] == ("snapshots.maintenance", [str(job.id)])
    run_accepted(bench.service)
    held = jobs.claim(job.id, "a worker")
    assert held
    watched = Runner(jobs, seen.append)(job.id, 0.2)
    assert (watched.status, watched.fence) == ("running", held.fence)
    jobs.release(held)
    done = Progress.of(Runner(jobs, seen.append)(job.id, 30))
    assert (done.requests, done.completed) == (35, 35)
    assert seen[-1].in_flight == 0


def test_old_open_requests_hide_no_outcomes_of_later_ones(
    bench: Bench, jobs: Jobs, contact: Contact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backfill, "_WINDOW", 5)
    job = accept_backfill(jobs, contact.organization, {}, enqueue=False)
    Runner(jobs, lambda _: None)(job.id, 0.2)
    keys = [each["_id"] for each in bench.database.snapshotrequests.find({}, {"_id": 1}).sort("_id", 1)]
    Run(bench.service)(keys[10:])
    eventually(lambda: Progress.of(Runner(jobs, lambda _: None)(job.id, 0.2)).completed == len(keys) - 10, 60)


def test_command_ends_in_time_although_there_is_always_more_to_do(
    bench: Bench, jobs: Jobs, contact: Contact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Slice, "begin", lambda own: setattr(own, "_ends", time.monotonic() + 0.001))
    jobs.service.settings = bench.settings.model_copy(update={"chunk_size": 1})
    job = accept_backfill(jobs, contact.organization, {}, enqueue=False)
    left = Runner(jobs, lambda _: None)(job.id, 0)
    assert (left.status, Progress.of(left).requests < 35) == ("running", True)


def test_command_that_was_killed_is_continued_by_the_workers(bench: Bench, jobs: Jobs, contact: Contact) -> None:
    job = accept_backfill(jobs, contact.organization, {}, enqueue=False)
    assert jobs.claim(job.id, "a command that is killed")
    assert list(jobs.take_lost(MAINTENANCE, bench.ago())) == []
    bench.advance(seconds=jobs.lease.total_seconds() + 1)
    assert list(jobs.take_lost(EXPORTS, bench.ago())) == []
    assert [each.id for each in jobs.take_lost(MAINTENANCE, bench.ago(seconds=1))] == [job.id]
    while not (found := jobs.get(job.id)).is_finished:
        run_slice(jobs, job.id, "a worker", Backfill(jobs.service, 1), lambda _: None)
        run_accepted(jobs.service)
    assert (Progress.of(found).requests, Progress.of(found).completed) == (35, 35)


def test_command_ends_when_its_backfill_is_cancelled(bench: Bench, jobs: Jobs, contact: Contact) -> None:
    job = accept_backfill(jobs, contact.organization, {}, enqueue=False)
    cancelled: list[bool] = []

    def cancel_at_20(progress: Progress) -> None:
        if progress.requests == 20 and not cancelled:
            cancelled.append(jobs.cancel(job.id))

    done = Runner(jobs, cancel_at_20)(job.id, 60)
    assert (done.status, cancelled) == ("cancelled", [True])
    assert bench.database.snapshotrequests.count_documents({}) == 20


def test_command_hands_over_if_it_is_interrupted_in_its_first_slice(bench: Bench, jobs: Jobs, contact: Contact) -> None:
    """Otherwise no worker would continue the backfill before the lease of the command has ended."""
    job = accept_backfill(jobs, contact.organization, {}, enqueue=False)

    def interrupt(progress: Progress) -> None:
        if progress.requests == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Runner(jobs, interrupt)(job.id, 60)
    assert bench.published.chunks[-1] == ("snapshots.maintenance", [str(job.id)])
    assert jobs.claim(job.id, "a worker")


def test_command_goes_on_with_its_slice_after_a_fault(
    bench: Bench, jobs: Jobs, contact: Contact, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = accept_backfill(jobs, contact.organization, {}, enqueue=False)
    accept, faults = bench.service.accept, [StoreUnavailable()]

    def accept_later(requests: Sequence[NewRequest]) -> list[Receipt | SnapshotError]:
        if faults:
            raise faults.pop()
        return accept(requests)

    def work(_: Progress) -> None:
        run_accepted(bench.service)

    monkeypatch.setattr(bench.service, "accept", accept_later)
    done = Runner(jobs, work)(job.id, 30)
    assert (done.status, done.fence, Progress.of(done).completed) == ("completed", 1, 35)


def test_command_goes_on_when_the_time_of_a_slice_is_over(
    bench: Bench, jobs: Jobs, contact: Contact, monkeypatch: pytest.MonkeyPatch
) -> None:
    class ShortSlice(Slice):
        def begin(self) -> None:
            self._ends = time.monotonic() + 0.01

    monkeypatch.setattr(running, "Slice", ShortSlice)
    job = accept_backfill(jobs, contact.organization, {}, enqueue=False)

    def work(_: Progress) -> None:
        run_accepted(bench.service)

    done = Runner(jobs, work)(job.id, 30)
    assert (done.status, done.fence, Progress.of(done).completed) == ("completed", 1, 35)
