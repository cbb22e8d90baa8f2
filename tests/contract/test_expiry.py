"""Snapshots that are older than their organization's policy keeps them are removed, from exports as well."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId
from pymongo.client_session import ClientSession

from support.erasing import with_keys
from support.exporting import Exporting, add_snapshots
from support.ledger import Bench, bench_on
from worker.closings.policies import Policies
from worker.erasure.holds import Holds
from worker.errors import SnapshotDeleted, StoreConflict
from worker.exports.destination import DestinationUnavailable
from worker.exports.places import open_destination, open_folder
from worker.exports.verifying import Rebuild, verify
from worker.jobs.job import Job
from worker.jobs.slices import run_slice
from worker.jobs.store import JobFilter, Jobs
from worker.metrics.gauges import read_store
from worker.runs.run import Run
from worker.settings import Settings
from worker.stores import indexes
from worker.stores.connections import Connections
from worker.stores.stats import identities
from worker.sweep import expiry
from worker.sweep.expiry import ExpiryJob
from worker.sweep.sweep import Sweep


@pytest.fixture
def bench(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr(expiry, "_BATCH", 3)
    with bench_on(with_keys(settings, tmp_path)) as made:
        indexes.ensure(made.connections)
        yield made


def keep_for(bench: Bench, *times: str) -> None:
    Policies(bench.connections).set(bench.organization, {"keepFor": list(times)})


def sweep(bench: Bench) -> Job | None:
    """Sweep, and run the job that the sweep has accepted to its end."""
    bench.advance(minutes=11)
    jobs = Jobs(bench.service)
    if not Sweep(bench.service)().expiring:
        return None
    (job,) = jobs.list(JobFilter(bench.organization, "retention"), 1)
    work = ExpiryJob(jobs)
    for _ in range(20):
        if not job.is_finished:
            run_slice(jobs, job.id, "test", work, work.clean_up)
            job = jobs.get(job.id)
    assert job.status == "completed"
    return job


def captured(bench: Bench, days: float, contact: ObjectId | None = None, **body: str) -> ObjectId:
    """A snapshot that a run has made, so many days ago."""
    owner = contact or bench.contact()
    (key,) = bench.accepted(bench.asked(owner, conversationId=bench.conversation(owner), **body))
    Run(bench.service)([key])
    bench.database.trainingsnapshots.update_one({"_id": key}, {"$set": {"createdAt": bench.ago(days=days)}})
    return key


def test_each_quality_is_kept_for_its_time_and_the_accounting_holds(bench: Bench) -> None:
    gone = [captured(bench, 401, notes=f"{number}") for number in range(7)]
    gone += [captured(bench, 31, quality="bad"), captured(bench, 401, quality="fair")]
    bench.database.trainingsnapshots.update_one({"_id": gone[0]}, {"$set": {"isArchived": True}})
    kept = [captured(bench, 399), captured(bench, 999, quality="good"), captured(bench, 29, quality="bad", notes="n")]
    foreign = ObjectId()
    bench.database.trainingsnapshots.insert_one(
        {"_id": foreign, "organizationId": ObjectId(), "createdAt": bench.ago(days=5000)}
    )
    keep_for(bench, "400d", "good=1000d", "bad=30d")

    job = sweep(bench)
    assert job
    assert job.result == {"removed": {"snapshots": len(gone)}}
    assert set(bench.snapshots()) == {*kept, foreign}
    assert all("deletedAt" in each for each in bench.entries(gone))
    assert not any("deletedAt" in each for each in bench.entries(kept))
    assert read_store(bench.connections).expired == len(gone)
    bench.database.trainingsnapshots.delete_one({"_id": foreign})
    (identity,) = identities(bench.connections)
    assert identity.holds
    entry = bench.entry(gone[0])
    asked = bench.asked(entry["contactId"], entry["requestId"], notes="0", conversationId=entry["conversationId"])
    (again,) = bench.service.accept([asked])
    assert isinstance(again, SnapshotDeleted)


def test_contact_under_a_legal_hold_keeps_snapshots_until_it_ends(bench: Bench) -> None:
    contact = bench.contact()
    held, free = captured(bench, 500, contact), captured(bench, 500)
    Holds(bench.service).set((bench.organization, contact), "case 17", bench.ago(days=-2))
    keep_for(bench, "400d")
    assert sweep(bench)
    assert set(bench.snapshots()) == {held}
    assert free not in bench.snapshots()
    bench.advance(days=2)
    assert sweep(bench)
    assert bench.snapshots() == {}


def test_legal_hold_that_is_set_after_a_batch_was_read_counts(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    contact = bench.contact()
    held, free = captured(bench, 500, contact), captured(bench, 500)
    keep_for(bench, "400d")
    begin = Connections.transaction

    def begin_late(connections: Connections) -> AbstractContextManager[ClientSession]:
        with monkeypatch.context() as undisturbed:
            undisturbed.setattr(Connections, "transaction", begin)
            Holds(bench.service).set((bench.organization, contact), "case 17", bench.ago(days=-2))
        return begin(connections)

    bench.advance(minutes=11)
    assert Sweep(bench.service)().expiring == 1
    monkeypatch.setattr(Connections, "transaction", begin_late)
    jobs = Jobs(bench.service)
    (job,) = jobs.list(JobFilter(bench.organization, "retention"), 1)
    run_slice(jobs, job.id, "test", ExpiryJob(jobs), lambda _: None)
    assert (held in bench.snapshots(), free in bench.snapshots()) == (True, False)


def test_legal_hold_that_is_set_after_the_holds_were_read_aborts_the_batch(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    contact = bench.contact()
    held, free = captured(bench, 500, contact), captured(bench, 500)
    keep_for(bench, "400d")
    bench.advance(minutes=11)
    assert Sweep(bench.service)().expiring == 1
    read = Holds.list

    def read_too_early(holds: Holds, *which: Any) -> Any:
        found = read(holds, *which)
        if isinstance(which[-1], ClientSession):
            holds.set((bench.organization, contact), "case 17", bench.ago(days=-2))
        return found

    monkeypatch.setattr(Holds, "list", read_too_early)
    jobs = Jobs(bench.service)
    (job,) = jobs.list(JobFilter(bench.organization, "retention"), 1)
    with pytest.raises(StoreConflict):
        run_slice(jobs, job.id, "test", ExpiryJob(jobs), lambda _: None)
    assert held in bench.snapshots()
    monkeypatch.undo()
    run_slice(jobs, job.id, "test", ExpiryJob(jobs), lambda _: None)
    assert (held in bench.snapshots(), free in bench.snapshots()) == (True, False)
    assert [each["contactId"] for each in bench.database.snapshotholds.find()] == [contact]


def test_policy_that_is_cleared_before_the_job_runs_removes_nothing(bench: Bench) -> None:
    key = captured(bench, 500)
    keep_for(bench, "400d")
    assert Sweep(bench.service)().expiring == 1
    Policies(bench.connections).set(bench.organization, {}, ["keepFor"])
    jobs = Jobs(bench.service)
    (job,) = jobs.list(JobFilter(bench.organization, "retention"), 1)
    run_slice(jobs, job.id, "test", ExpiryJob(jobs), lambda _: None)
    assert jobs.get(job.id).result == {"removed": {}}
    assert key in bench.snapshots()


def test_sweep_starts_no_job_without_snapshots_that_are_too_old_nor_twice_a_day(bench: Bench) -> None:
    captured(bench, 399.95)
    assert sweep(bench) is None  # no policy
    keep_for(bench, "400d")
    assert sweep(bench) is None
    bench.advance(hours=2)
    assert sweep(bench)
    captured(bench, 500)
    assert sweep(bench) is None
    bench.advance(days=1)
    assert sweep(bench)
    assert bench.snapshots() == {}


def test_invalid_policy_removes_nothing(bench: Bench) -> None:
    captured(bench, 500)
    keep_for(bench, "400d")
    bench.database.snapshotpolicies.update_one({}, {"$set": {"keepFor": ["400d", "4"]}})
    assert sweep(bench) is None
    assert len(bench.snapshots()) == 1


def test_export_files_lose_what_is_too_old_and_are_rebuilt_without_it(bench: Bench, tmp_path: Path) -> None:
    add_snapshots(bench, 10)
    stored = bench.database.trainingsnapshots
    stored.update_many({}, {"$set": {"createdAt": bench.ago(days=10)}})
    stored.update_many({"quality": "bad"}, {"$set": {"createdAt": bench.ago(days=500)}})
    exporting = Exporting(bench)
    export = exporting.run()
    before = exporting.files(export)
    keep_for(bench, "400d")
    job = sweep(bench)
    assert job
    assert job.result == {"removed": {"snapshots": 3, "export files": 1}}
    (gone,) = before.keys() - exporting.files(export).keys()
    assert exporting.manifest(export)["stale"]["reason"] == "expired"
    destination = open_destination(bench.settings, export.id)
    assert verify(destination).faults == {gone: "was removed, because snapshots in it were too old: rebuild the export"}
    target = open_folder(tmp_path / "again", ObjectId())
    assert Rebuild(bench.service, destination)(target) == []
    assert verify(target).faults == {}
    assert len((tmp_path / "again" / gone).read_bytes().splitlines()) == 7


def test_removal_goes_on_once_a_damaged_manifest_is_repaired(bench: Bench) -> None:
    add_snapshots(bench, 2)
    bench.database.trainingsnapshots.update_one({"quality": "bad"}, {"$set": {"createdAt": bench.ago(days=500)}})
    exporting = Exporting(bench)
    export = exporting.run()
    manifest = exporting.root / str(export.id) / "manifest.json"
    whole = manifest.read_bytes()
    manifest.write_bytes(whole[:100])
    keep_for(bench, "400d")
    with pytest.raises(DestinationUnavailable, match="no readable manifest"):
        sweep(bench)
    (job,) = Jobs(bench.service).list(JobFilter(bench.organization, "retention"), 1)
    assert (job.status, len(bench.snapshots())) == ("running", 1), "a failed job would lose the ids that the files have"
    manifest.write_bytes(whole)
    run_slice(Jobs(bench.service), job.id, "test", ExpiryJob(Jobs(bench.service)), lambda _: None)
    done = Jobs(bench.service).get(job.id)
    assert done.result == {"removed": {"snapshots": 1, "export files": 1}}


def test_batch_reads_the_index_and_no_more_than_it_removes(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expiry, "_BATCH", 200)
    now = bench.service.clock.now()
    bench.database.trainingsnapshots.insert_many(
        {
            "organizationId": bench.organization,
            "isArchived": number % 5 == 0,
            "createdAt": now - timedelta(days=number),
            "quality": "good" if number % 2 else "bad",
        }
        for number in range(1000)
    )
    keep_for(bench, "900d", "good=950d")
    with profiled(bench) as run:
        assert sweep(bench)
    for each in run:
        assert "COLLSCAN" not in each.get("planSummary", ""), each["command"]
        assert each.get("docsExamined", 0) <= 200, each["command"]


def test_reads_are_bounded_where_one_quality_alone_has_a_time(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expiry, "_MAX_READ", 50)
    first, second = bench.ago(days=100), bench.ago(days=50)
    fields = {"organizationId": bench.organization, "isArchived": False}
    rare = [ObjectId() for _ in range(4)]
    stored = bench.database.trainingsnapshots
    stored.insert_many(
        {**fields, "createdAt": first + timedelta(minutes=each), "quality": "good"} for each in range(500)
    )
    stored.insert_many({**fields, "createdAt": second, "quality": "good"} for _ in range(120))  # of one moment
    moments = (first, first + timedelta(minutes=300), second, second + timedelta(hours=1))
    stored.insert_many(
        {"_id": key, **fields, "createdAt": at, "quality": "bad"} for key, at in zip(rare, moments, strict=True)
    )
    keep_for(bench, "bad=30d")
    with profiled(bench) as run:
        job = sweep(bench)
    assert job
    assert job.result == {"removed": {"snapshots": 4}}
    assert stored.count_documents({}) == 620
    reads = [each for each in run if "skip" not in each["command"] and each["command"].get("limit") == 3]
    assert max(each["docsExamined"] for each in reads) <= 122  # the moment that has more than that is read at once
    ends = [each for each in run if each["command"].get("skip") == 50]
    assert ends
    assert {each["docsExamined"] for each in ends} == {0}


@contextmanager
def profiled(bench: Bench) -> Iterator[list[Any]]:
    """The reads and removals of snapshots within the block, as MongoDB's profiler has them after it."""
    found: list[Any] = []
    bench.database.command("profile", 2)
    yield found
    bench.database.command("profile", 0)
    ours = {"ns": f"{bench.database.name}.trainingsnapshots", "op": {"$in": ["query", "remove", "command"]}}
    found += bench.database["system.profile"].find(ours)
    assert found
