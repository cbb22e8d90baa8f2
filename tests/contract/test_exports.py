"""Exports: content, freezing, resumption, and what is left behind."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from bson import ObjectId

from support.exporting import Exporting, add_snapshots, at_once
from support.ledger import bench_on
from worker.domain.json_values import render
from worker.errors import InvalidRequest, InvalidSettings
from worker.exports import freezing, stratifying
from worker.exports.accepting import MAX_UNFINISHED, TooManyExports
from worker.exports.destination import DestinationFailed
from worker.exports.places import open_folder
from worker.exports.verifying import Rebuild, SourcesChanged, verify
from worker.jobs.slices import Slice
from worker.settings import Settings
from worker.stores import indexes
from worker.sweep.sweep import Sweep


@pytest.fixture
def exporting(settings: Settings, tmp_path: Path) -> Iterator[Exporting]:
    with bench_on(settings.model_copy(update={"exports_url": str(tmp_path / "exports")})) as made:
        indexes.ensure(made.connections)
        yield Exporting(made)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches and shards of a few snapshots."""
    monkeypatch.setattr(freezing, "_BATCH", 4)
    monkeypatch.setattr(freezing, "SHARD_ROWS", 5)


def test_every_snapshot_is_one_row_and_the_manifest_adds_up(exporting: Exporting) -> None:
    add_snapshots(exporting.bench, 25)
    done = exporting.run()
    stored = list(exporting.bench.database.trainingsnapshots.find().sort("_id", 1))
    assert exporting.rows(done) == json.loads(json.dumps([render(each) for each in stored]))
    manifest = exporting.manifest(done)
    assert manifest["counts"]["rows"] == manifest["counts"]["snapshots"] == manifest["counts"]["selected"] == 25
    assert manifest["counts"]["quality"] == {"bad": 8, "good": 9, "none": 8}
    assert {each["path"] for each in manifest["files"]} == set(exporting.files(done))
    assert exporting.strays() == []
    assert exporting.bench.database.snapshotexports.count_documents({}) == 0


def test_content_is_that_of_one_moment(exporting: Exporting, small: None) -> None:
    add_snapshots(exporting.bench, 12)
    job = exporting.accept()
    exporting.slice(job, lambda own: exporting.work(at_once(own)))
    snapshots = exporting.bench.database.trainingsnapshots
    snapshots.update_many({}, {"$set": {"notes": "edited", "quality": "bad", "isArchived": True}})
    add_snapshots(exporting.bench, 3, first=100)
    for _ in range(20):
        exporting.slice(job)
    rows = exporting.rows(exporting.jobs.get(job.id))
    assert [row["notes"] for row in rows] == [f"note {number}" for number in range(12)]
    assert [row["isArchived"] for row in rows] == [False] * 12


def test_slices_that_die_after_every_step_leave_the_same_bytes(exporting: Exporting, small: None) -> None:
    add_snapshots(exporting.bench, 23)
    undisturbed = exporting.run(split="60/20/20")

    class Killed(BaseException):
        pass

    def dies(own: Slice) -> None:
        saved = own.save

        def save(session: object = None) -> None:
            saved(session)  # type: ignore[arg-type]
            if session is None:
                raise Killed

        own.save = save  # type: ignore[method-assign]
        raised = exporting.work(own)
        raise AssertionError(raised)

    job = exporting.accept(split="60/20/20")
    for _ in range(4):
        with pytest.raises(Killed):
            exporting.slice(job, dies)
        assert not (exporting.root / str(job.id)).exists()
        exporting.bench.advance(seconds=exporting.jobs.lease.total_seconds() + 1)
    while not exporting.jobs.get(job.id).is_finished:
        exporting.slice(job)
    assert exporting.content(job) == exporting.content(undisturbed)
    assert len(exporting.content(job)) > 6
    assert exporting.strays() == []


def test_stratified_export_whose_slices_die_puts_nobody_on_two_sides(
    exporting: Exporting, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stratifying, "PAGE", 7)
    add_snapshots(exporting.bench, 90)
    undisturbed = exporting.run(split="50/25/25", stratify="quality")
    job = exporting.accept(split="50/25/25", stratify="quality")
    while (exporting.jobs.get(job.id).checkpoint or {}).get("phase") != "write":
        exporting.slice(job, lambda own: exporting.work(at_once(own)))
    assert exporting.jobs.get(job.id).fence > 90 / 7 + 90 / 4
    exporting.slice(job)
    done = exporting.jobs.get(job.id)
    assert exporting.content(done) == exporting.content(undisturbed)
    assert exporting.bench.database.snapshotexports.count_documents({}) == 0
    manifest = exporting.manifest(done)
    assert manifest["split"]["moved"] > 0
    for side, share in (("train", 0.5), ("validation", 0.25), ("test", 0.25)):
        for quality in ("good", "bad", "none"):
            assert abs(manifest["splits"][side]["quality"][quality] - 30 * share) <= 4
    people: dict[str, set[str]] = {}
    for name, data in exporting.files(done).items():
        if name.endswith(".jsonl"):
            for row in map(json.loads, data.splitlines()):
                people.setdefault(row["contactId"], set()).add(name.partition("-")[0])
    assert all(len(sides) == 1 for sides in people.values())


def test_killed_between_publishing_and_its_outcome_completes_with_the_same_files(exporting: Exporting) -> None:
    add_snapshots(exporting.bench, 3)
    job = exporting.accept()

    def dies(own: Slice) -> None:
        exporting.work(own)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        exporting.slice(job, dies)
    before = exporting.files(job)
    exporting.bench.advance(seconds=exporting.jobs.lease.total_seconds() + 1)
    exporting.slice(job)
    done = exporting.jobs.get(job.id)
    assert (done.status, exporting.files(done)) == ("completed", before)
    assert exporting.strays() == []


def test_cancelled_export_leaves_nothing(exporting: Exporting, small: None) -> None:
    add_snapshots(exporting.bench, 12)
    job = exporting.accept()

    def cancelled(own: Slice) -> None:
        exporting.work(own)
        exporting.jobs.cancel(own.job.id)

    exporting.slice(job, cancelled)
    exporting.slice(job)
    assert exporting.jobs.get(job.id).status == "cancelled"
    assert list(exporting.root.iterdir()) == []
    assert exporting.bench.database.snapshotexports.count_documents({}) == 0
    assert exporting.jobs.get(job.id).checkpoint is None


def test_deleted_snapshot_is_left_out_and_counted(exporting: Exporting) -> None:
    add_snapshots(exporting.bench, 4)
    job = exporting.accept()
    exporting.slice(job, lambda own: exporting.work(at_once(own)))
    exporting.bench.database.trainingsnapshots.delete_one({"notes": "note 1"})
    while not exporting.jobs.get(job.id).is_finished:
        exporting.slice(job)
    done = exporting.jobs.get(job.id)
    assert done.result
    assert done.result["counts"]["skipped"] == {"deleted": 1}
    assert len(exporting.rows(done)) == 3


def test_odd_snapshots_are_skipped_and_named(exporting: Exporting) -> None:
    add_snapshots(exporting.bench, 2)
    add_snapshots(exporting.bench, 1, first=5, messages=0)
    exporting.bench.database.trainingsnapshots.insert_one(
        {"_id": ObjectId(), "organizationId": exporting.bench.organization, "isArchived": False, "messages": 7}
    )
    done = exporting.run(format="messages")
    assert done.result
    assert sum(done.result["counts"]["skipped"].values()) == 2
    listed = exporting.files(done)["ids/00000.tsv"].decode().splitlines()
    assert [line.split("\t")[3].isdecimal() for line in listed] == [True, True, False, False]


def test_duplicates_are_left_out_across_sides(exporting: Exporting, small: None) -> None:
    add_snapshots(exporting.bench, 10)
    add_snapshots(exporting.bench, 10, first=20, contentHash="7" * 64)
    done = exporting.run(dedupe=True, split="50/25/25")
    assert done.result
    assert (done.result["counts"]["snapshots"], done.result["counts"]["duplicates"]) == (11, 9)


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"format": "word"}, "format"),
        ({"split": "90/5"}, "split"),
        ({"split": "90/5/6"}, "split"),
        ({"stratify": "quality"}, "stratify"),
        ({"compress": "rar"}, "compress"),
        ({"colour": "red"}, "colour"),
        ({"from": "yesterday"}, "from"),
    ],
)
def test_bad_input_names_the_field_and_leaves_nothing(exporting: Exporting, given: dict[str, str], field: str) -> None:
    add_snapshots(exporting.bench, 1)
    with pytest.raises(InvalidRequest) as caught:
        exporting.accept(**given)
    assert [each["field"] for each in caught.value.errors] == [field]
    assert exporting.bench.database.snapshotjobs.count_documents({}) == 0


def test_empty_selection_is_refused(exporting: Exporting) -> None:
    add_snapshots(exporting.bench, 1)
    with pytest.raises(freezing.EmptySelection, match="matches the filters"):
        exporting.accept(quality="missing")
    assert exporting.bench.database.snapshotjobs.count_documents({}) == 0


def test_organization_has_a_limited_number_of_exports_in_progress(exporting: Exporting) -> None:
    add_snapshots(exporting.bench, 1)
    jobs = [exporting.accept() for _ in range(MAX_UNFINISHED)]
    with pytest.raises(TooManyExports):
        exporting.accept()
    exporting.jobs.cancel(jobs[0].id)
    exporting.accept()


def test_missing_destination_is_one_sentence(exporting: Exporting) -> None:
    add_snapshots(exporting.bench, 1)
    exporting.bench.service.settings = exporting.bench.settings.model_copy(update={"exports_url": None})
    with pytest.raises(InvalidSettings, match="SNAPSHOTS_EXPORTS_URL is not set"):
        exporting.accept()


def test_unwritable_destination_fails_the_job_with_the_reason(exporting: Exporting) -> None:
    add_snapshots(exporting.bench, 1)
    exporting.root.write_text("not a folder")
    done = exporting.run()
    assert done.error
    assert (done.status, done.error["code"]) == ("failed", DestinationFailed.code)
    assert str(exporting.root) in done.error["message"]


def test_sweep_lets_a_worker_clean_up_after_a_cancelled_export(exporting: Exporting) -> None:
    add_snapshots(exporting.bench, 2)
    job = exporting.accept()
    exporting.slice(job, lambda own: exporting.work(at_once(own)))
    exporting.jobs.cancel(job.id)
    exporting.bench.published.chunks.clear()
    exporting.bench.advance(seconds=exporting.bench.settings.lost_after.total_seconds() + 1)
    Sweep(exporting.bench.service)()
    assert exporting.bench.published.ids == [str(job.id)]
    exporting.slice(job)
    assert exporting.bench.database.snapshotexports.count_documents({}) == 0


def test_export_is_verified_and_made_again_with_the_same_bytes(exporting: Exporting, tmp_path: Path) -> None:
    add_snapshots(exporting.bench, 9)
    done = exporting.run(format="messages", split="50/25/25", compress="gzip")
    folder = exporting.root / str(done.id)
    source = open_folder(folder, done.id)
    assert verify(source).faults == {}
    again = tmp_path / "again"
    assert Rebuild(exporting.bench.service, source)(open_folder(again, ObjectId())) == []
    assert {path.name: path.read_bytes() for path in again.rglob("*.*")} == {
        path.name: path.read_bytes() for path in folder.rglob("*.*")
    }
    changed = next(folder.glob("*.gz"))
    changed.write_bytes(changed.read_bytes()[:-1] + b"x")
    (folder / "stray.txt").write_text("")
    assert verify(source).faults == {changed.name: "has different content", "stray.txt": "is not part of the export"}


def test_rebuild_names_the_snapshots_that_are_gone_or_were_edited(exporting: Exporting, tmp_path: Path) -> None:
    add_snapshots(exporting.bench, 4)
    done = exporting.run()
    snapshots = exporting.bench.database.trainingsnapshots
    first, second, *_ = [each["_id"] for each in snapshots.find().sort("_id", 1)]
    snapshots.delete_one({"_id": first})
    snapshots.update_one({"_id": second}, {"$set": {"notes": "edited"}})
    rebuild = Rebuild(exporting.bench.service, open_folder(exporting.root / str(done.id), done.id))
    with pytest.raises(SourcesChanged) as caught:
        rebuild(open_folder(tmp_path / "again", ObjectId()))
    assert caught.value.details == {"gone": [str(first)], "edited": [str(second)]}
    assert not (tmp_path / "again").exists()
