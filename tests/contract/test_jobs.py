"""Jobs: claims, fencing, and what survives a killed worker and a flushed Redis."""

from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from bson import ObjectId
from celery import Celery

from support.ledger import Bench, bench_on
from worker.celery_support.publisher import CeleryPublisher
from worker.errors import InvalidRequest, NotFound
from worker.jobs import events, store
from worker.jobs.job import Job
from worker.jobs.slices import Slice, run_slice
from worker.jobs.store import JobFilter, Jobs, LeaseLost
from worker.settings import Settings
from worker.stores import indexes
from worker.stores.connections import Connections
from worker.stores.wakeups import EXPORTS
from worker.sweep.replay import Replay
from worker.sweep.sweep import Sweep


@pytest.fixture
def bench(settings: Settings) -> Iterator[Bench]:
    with bench_on(settings) as made:
        indexes.ensure(made.connections)
        yield made


@pytest.fixture
def jobs(bench: Bench) -> Jobs:
    return Jobs(bench.service)


@pytest.fixture
def job(bench: Bench, jobs: Jobs) -> Job:
    return jobs.accept("export", bench.organization, {"format": "jsonl"})


def nothing(_: Job) -> None:
    """Nothing is left to clean up."""


def count_to(last: int) -> Any:
    """Work that takes `last` slices."""

    def work(own: Slice) -> dict[str, int] | None:
        number = own.checkpoint.get("number", 0) + 1
        if number == last:
            return {"number": number}
        own.checkpoint = own.progress = {"number": number}
        own.save()
        return None

    return work


def claimed(jobs: Jobs, job: Job) -> Job:
    taken = jobs.claim(job.id, "test", local=job.is_local)
    assert taken
    return taken


def test_job_runs_in_slices_until_it_is_done(bench: Bench, jobs: Jobs, job: Job) -> None:
    for _ in range(3):
        run_slice(jobs, job.id, "test", count_to(3), nothing)
    done = jobs.get(job.id, bench.organization, "export")
    assert (done.status, done.result, done.progress, done.fence) == ("completed", {"number": 3}, {"number": 2}, 3)
    assert bench.published.chunks == [("snapshots.exports", [str(job.id)])] * 3
    (event,) = bench.events()
    assert (event["id"], event["type"]) == (f"{job.id}.0", "training.export.completed")
    assert event["data"] == {"organizationId": str(bench.organization), "jobId": str(job.id), "number": 3}


def test_message_that_is_delivered_twice_does_nothing_the_second_time(jobs: Jobs, job: Job) -> None:
    holder = claimed(jobs, job)
    assert jobs.claim(job.id, "another") is None
    jobs.complete(holder, {})
    assert jobs.claim(job.id, "another") is None


def test_slice_that_was_taken_over_writes_nothing(bench: Bench, jobs: Jobs, job: Job) -> None:
    late = claimed(jobs, job)
    bench.advance(seconds=jobs.lease.total_seconds() + 1)
    holder = claimed(jobs, job)
    with pytest.raises(LeaseLost):
        jobs.save(late, {"parts": 9}, {})
    with pytest.raises(LeaseLost):
        jobs.release(late)
    with pytest.raises(LeaseLost):
        jobs.complete(late, {})
    with pytest.raises(LeaseLost):
        jobs.fail(late, NotFound())
    jobs.save(holder, {"parts": 1}, {})
    assert jobs.get(job.id).progress == {"parts": 1}
    assert bench.events() == []


def test_cancelled_job_ends_at_the_next_write_of_its_slice(jobs: Jobs, job: Job) -> None:
    holder = claimed(jobs, job)
    assert jobs.cancel(job.id)
    with pytest.raises(LeaseLost):
        jobs.save(holder, {}, {})
    assert jobs.get(job.id).status == "cancelled"
    assert not jobs.cancel(job.id)
    assert jobs.claim(job.id, "test") is None


@pytest.mark.parametrize("end", [lambda jobs, job: jobs.delete(job.id), Jobs.mark_cleaned], ids=["deleted", "cleaned"])
def test_slice_of_a_job_that_was_cancelled_removes_what_it_has_written_since(jobs: Jobs, job: Job, end: Any) -> None:
    """A cancelled export can be cleaned up and deleted while a slice still writes a file to a bucket."""
    removed: list[ObjectId] = []

    def work(own: Slice) -> None:
        jobs.cancel(job.id)
        end(jobs, job)
        own.save()

    run_slice(jobs, job.id, "test", work, lambda own: removed.append(own.id))
    assert removed == [job.id]


def test_job_whose_slices_die_without_progress_fails_as_worker_lost(bench: Bench, jobs: Jobs, job: Job) -> None:
    for _ in range(bench.settings.worker_lost_after):
        jobs.save(claimed(jobs, job), {}, {})  # progress, so that nothing counts
        bench.advance(seconds=jobs.lease.total_seconds() + 1)
    for _ in range(bench.settings.worker_lost_after):
        claimed(jobs, job)
        bench.advance(seconds=jobs.lease.total_seconds() + 1)
    assert jobs.claim(job.id, "test") is None
    failed = jobs.get(job.id)
    assert failed.error
    assert (failed.status, failed.error["code"]) == ("failed", "worker_lost")
    (event,) = bench.events()
    assert (event["type"], event["data"]["error"]["code"]) == ("training.export.failed", "worker_lost")


def test_outage_neither_counts_as_a_death_nor_forgets_the_progress_before_it(
    bench: Bench, jobs: Jobs, job: Job
) -> None:
    def stalled() -> int:
        return jobs.get(job.id).stalled

    for _ in range(2):
        claimed(jobs, job)
        bench.advance(seconds=jobs.lease.total_seconds() + 1)
    jobs.interrupt(claimed(jobs, job))
    assert stalled() == 2
    holder = claimed(jobs, job)
    jobs.save(holder, {}, {"number": 1})
    jobs.interrupt(holder)
    assert stalled() == 0


def test_bad_input_fails_the_job_and_an_unexpected_error_does_not(jobs: Jobs, bench: Bench, job: Job) -> None:
    def unexpected(_: Slice) -> None:
        raise RuntimeError

    def invalid(_: Slice) -> None:
        raise InvalidRequest([{"field": "format", "message": "is unknown"}])

    run_slice(jobs, job.id, "test", unexpected, nothing)
    assert jobs.get(job.id).status == "running"
    bench.advance(seconds=jobs.lease.total_seconds() + 1)
    run_slice(jobs, job.id, "test", invalid, nothing)
    failed = jobs.get(job.id)
    assert failed.error
    assert failed.error["details"] == {"errors": [{"field": "format", "message": "is unknown"}]}


def test_sweep_enqueues_a_lost_job_once(bench: Bench, jobs: Jobs, job: Job) -> None:
    Sweep(bench.service)()
    assert bench.published.ids == [str(job.id)], "just enqueued"
    bench.advance(seconds=bench.settings.lost_after.total_seconds() + 1)
    holder = claimed(jobs, job)
    Sweep(bench.service)()
    assert bench.published.ids == [str(job.id)], "a slice works on it"
    bench.advance(seconds=jobs.lease.total_seconds() + 1)
    for _ in range(2):
        Sweep(bench.service)()
    assert bench.published.ids == [str(job.id)] * 2
    jobs.complete(claimed(jobs, holder), {})


def test_job_that_waits_behind_a_long_queue_is_not_enqueued_again(
    bench: Bench, jobs: Jobs, job: Job, redis_url: str
) -> None:
    with Celery("test", broker=redis_url, set_as_current=False) as app:
        CeleryPublisher(app)(EXPORTS, [[str(ObjectId())], [str(job.id)]], job.accepted_at, task="snapshots.export")
    bench.advance(minutes=5)
    Sweep(bench.service)()
    assert bench.published.ids == [str(job.id)], "its message still waits"
    bench.connections.redis.delete(EXPORTS)
    Sweep(bench.service)()
    assert bench.published.ids == [str(job.id)] * 2


def test_flush_of_redis_repeats_the_event_with_its_id_and_content(bench: Bench, jobs: Jobs, job: Job) -> None:
    Sweep(bench.service)()
    jobs.complete(claimed(jobs, job), {"snapshots": 2})
    before = bench.events()
    bench.connections.redis.flushdb()
    for _ in range(2):
        Sweep(bench.service)()
    assert bench.events() == before


def test_flush_between_the_event_and_its_record_repeats_the_event(
    bench: Bench, jobs: Jobs, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    Sweep(bench.service)()
    emit = events.emit

    def emit_and_lose(connections: Connections, finished: Iterable[Job]) -> None:
        emit(connections, finished)
        bench.connections.redis.flushdb()
        Replay(bench.service)()

    monkeypatch.setattr(store, "emit", emit_and_lose)
    jobs.complete(claimed(jobs, job), {})
    monkeypatch.undo()
    assert bench.events() == []
    Sweep(bench.service)()
    assert [event["id"] for event in bench.events()] == [f"{job.id}.0"]
    Sweep(bench.service)()
    assert len(bench.events()) == 1


def test_event_that_went_out_late_is_repeated_if_redis_loses_its_last_second(
    bench: Bench, jobs: Jobs, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    Sweep(bench.service)()
    monkeypatch.setattr(jobs, "emit_event", lambda _: None)
    jobs.complete(claimed(jobs, job), {})
    bench.database.snapshotjobs.update_one({"_id": job.id}, {"$set": {"finishedAt": bench.ago(days=1)}})
    Sweep(bench.service)()
    for since, unsent in ((bench.ago(hours=-1), 0), (bench.ago(hours=1), 1)):
        jobs.mark_events_unsent(since)
        assert bench.database.snapshotjobs.count_documents({"unsent": True}) == unsent


def test_event_of_a_worker_that_died_after_finishing_is_emitted_by_the_sweep(
    bench: Bench, jobs: Jobs, job: Job
) -> None:
    jobs.complete(claimed(jobs, job), {})
    bench.database.snapshotjobs.update_one({"_id": job.id}, {"$set": {"unsent": True}})
    bench.connections.redis.delete(bench.settings.events_stream)
    Sweep(bench.service)()
    assert [event["id"] for event in bench.events()] == [f"{job.id}.0"]


def before_its_claim(_: Jobs, __: Job) -> None:
    """The command died at once."""


def during_a_slice(jobs: Jobs, job: Job) -> None:
    taken = claimed(jobs, job)
    jobs.save(taken, {}, {"number": 1})


def between_two_slices(jobs: Jobs, job: Job) -> None:
    jobs.release(claimed(jobs, job))


@pytest.mark.parametrize("dies", [before_its_claim, during_a_slice, between_two_slices])
def test_job_of_a_command_is_never_enqueued_and_fails_once_the_command_is_gone(
    bench: Bench, jobs: Jobs, dies: Callable[[Jobs, Job], None]
) -> None:
    job = jobs.accept("export", bench.organization, {}, local=True)
    dies(jobs, job)
    bench.advance(seconds=jobs.lease.total_seconds() - 1)
    Sweep(bench.service)()
    assert not jobs.get(job.id).is_finished
    bench.advance(seconds=jobs.lease.total_seconds() + 2)
    Sweep(bench.service)()
    assert bench.published.ids == []
    failed = jobs.get(job.id)
    assert failed.error
    assert (failed.status, failed.error["code"]) == ("failed", "worker_lost")
    bench.advance(seconds=bench.settings.lost_after.total_seconds() + 1)
    Sweep(bench.service)()
    left = [str(job.id)] if dies is during_a_slice else []
    assert bench.published.ids == left, "a worker removes what the job has in MongoDB"


def test_jobs_are_of_one_organization(bench: Bench, jobs: Jobs, job: Job) -> None:
    other = ObjectId()
    with pytest.raises(NotFound, match="Export not found"):
        jobs.get(job.id, other, "export")
    assert not jobs.cancel(job.id, other)
    assert jobs.list(JobFilter(other), 10) == []
    assert [each.id for each in jobs.list(JobFilter(bench.organization, "export"), 10)] == [job.id]
    assert timedelta(0) <= bench.service.clock.now() - job.accepted_at < timedelta(minutes=1)
