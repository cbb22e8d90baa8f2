"""An erasure removes a person from finished exports, and an export in progress begins again without the person."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId

from support.erasing import Erasing, erasing_bench
from support.exporting import Exporting, add_snapshots, at_once
from support.ledger import Bench
from worker.erasure import files
from worker.exports import freezing
from worker.exports.destination import DestinationUnavailable, Folder
from worker.exports.places import open_destination, open_folder
from worker.exports.showing import shown
from worker.exports.verifying import Rebuild, verify
from worker.settings import Settings

PERSON = ObjectId(f"{1:024x}")
"""Whose are the snapshots 0 and 1 of `add_snapshots`."""


@pytest.fixture
def exporting(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Exporting]:
    monkeypatch.setattr(freezing, "SHARD_ROWS", 4)
    with erasing_bench(settings, tmp_path) as bench:
        add_snapshots(bench, 10, quality="good")
        yield Exporting(bench)


def erase(bench: Bench) -> dict[str, int]:
    done = Erasing(bench).run(PERSON)
    assert done.status == "completed"
    assert done.result
    removed: dict[str, int] = done.result["receipt"]["removed"]
    return removed


def test_files_with_the_person_are_removed_and_rebuilt_without_the_person(exporting: Exporting, tmp_path: Path) -> None:
    job = exporting.run()
    before = exporting.files(job)
    removed = erase(exporting.bench)
    assert (removed["snapshots"], removed["export files"]) == (2, 1)
    after = exporting.files(job)
    (gone,) = before.keys() - after.keys()
    assert {name for name in after if after[name] != before[name]} == {"ids/00000.tsv"}
    listed = [line.partition(b"\t")[0] for line in after["ids/00000.tsv"].splitlines()]
    assert listed == [f"{number:024x}".encode() for number in (3, 4)]
    destination = open_destination(exporting.bench.settings, job.id)
    assert list(verify(destination).faults) == [gone]
    assert exporting.manifest(job)["stale"]["files"] == {gone: "ids/00000.tsv"}
    recorded = {each["name"]: each for each in shown(exporting.jobs.get(job.id))["files"]}
    assert recorded.pop(gone) == {"name": gone, "removed": "erased"}
    assert recorded.pop("manifest.json") == {"name": "manifest.json"}
    assert {name: (each["bytes"], each["sha256"]) for name, each in recorded.items()} == {
        name: (len(data), hashlib.sha256(data).hexdigest()) for name, data in after.items()
    }

    target = open_folder(tmp_path / "again", ObjectId())
    assert Rebuild(exporting.bench.service, destination)(target) == []
    assert verify(target).faults == {}
    again = (tmp_path / "again" / gone).read_bytes().splitlines()
    assert again == before[gone].splitlines()[2:]
    assert "stale" not in json.loads((tmp_path / "again" / "manifest.json").read_text())


def test_rebuilt_files_are_described_as_they_are(exporting: Exporting, tmp_path: Path) -> None:
    """`datasets` refuses a folder whose card states other numbers of rows than its files have."""
    job = exporting.run()
    erase(exporting.bench)
    folder = tmp_path / "again"
    source = open_destination(exporting.bench.settings, job.id)
    assert Rebuild(exporting.bench.service, source)(open_folder(folder, ObjectId())) == []
    listed = json.loads((folder / "manifest.json").read_text())["files"]
    data = {each["path"]: each for each in listed if each["kind"] == "data"}
    croissant = json.loads((folder / "croissant.json").read_text())
    described = {each["name"]: (each["contentSize"], each["sha256"]) for each in croissant["distribution"]}
    assert described == {path: (f"{each['bytes']} B", each["sha256"]) for path, each in data.items()}
    head = (folder / "README.md").read_text().split("---")[1].splitlines()
    info = json.loads(next(line.removeprefix("dataset_info: ") for line in head if line.startswith("dataset_info: ")))
    (split,) = info["splits"]
    assert split["num_examples"] == sum(each["rows"] for each in data.values()) == 8
    assert split["num_bytes"] == sum(each["bytes"] for each in data.values())


def test_second_erasure_of_the_same_person_changes_no_file(exporting: Exporting) -> None:
    job = exporting.run()
    erase(exporting.bench)
    first = exporting.files(job)
    exporting.bench.contact(_id=PERSON)
    assert "export files" not in erase(exporting.bench)
    assert exporting.files(job) == first


@pytest.mark.parametrize("other", [2, 4], ids=["in the same list", "in another list"])
def test_erasures_of_two_people_at_once_leave_an_export_that_can_be_rebuilt(
    exporting: Exporting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: int
) -> None:
    export = exporting.run()
    erasing = Erasing(exporting.bench)
    meanwhile = [erasing.accept(ObjectId(f"{other:024x}"))]
    second, pairs = meanwhile[0], files._pairs

    def interrupted(records: Any) -> Any:
        if meanwhile:  # the first one has read the manifest
            erasing.slice(meanwhile.pop())
        return pairs(records)

    monkeypatch.setattr(files, "_pairs", interrupted)
    erase(exporting.bench)
    assert not meanwhile
    assert erasing.finish(second).status == "completed"
    lists = [data for name, data in exporting.files(export).items() if name.startswith("ids/")]
    assert sum(len(data.splitlines()) for data in lists) == 6
    destination = open_destination(exporting.bench.settings, export.id)
    assert verify(destination).faults.keys() == exporting.manifest(export)["stale"]["files"].keys()
    assert Rebuild(exporting.bench.service, destination)(open_folder(tmp_path / "again", ObjectId())) == []
    assert "filesLock" not in exporting.bench.database.snapshotjobs.find_one({"_id": export.id})


def test_lock_of_a_job_that_was_killed_ends(exporting: Exporting) -> None:
    export = exporting.run()
    until = exporting.bench.service.clock.now() + exporting.jobs.lease
    lock = {"$set": {"filesLock": {"job": ObjectId(), "until": until}}}
    exporting.bench.database.snapshotjobs.update_one({"_id": export.id}, lock)
    erasing = Erasing(exporting.bench)
    job = erasing.slice(erasing.accept(PERSON))
    assert (job.status, (job.checkpoint or {}).get("phase")) == ("running", "files")
    exporting.bench.advance(seconds=exporting.jobs.lease.total_seconds() + 1)
    assert erasing.finish(job).status == "completed"


def test_export_in_progress_begins_again_without_the_person(exporting: Exporting) -> None:
    job = exporting.accept()
    for _ in range(3):
        exporting.slice(job, lambda own: exporting.work(at_once(own)))
    assert exporting.jobs.get(job.id).checkpoint
    assert erase(exporting.bench)["exports restarted"] == 1
    for _ in range(20):
        exporting.slice(job)
    done = exporting.jobs.get(job.id)
    assert done.result
    assert (done.status, done.result["counts"]["selected"]) == ("completed", 8)
    assert exporting.strays() == []


def test_export_of_this_contact_alone_is_deleted(exporting: Exporting) -> None:
    job = exporting.run(contactId=str(PERSON))
    assert erase(exporting.bench)["exports"] == 1
    assert not (exporting.root / str(job.id)).exists()
    assert exporting.bench.database.snapshotjobs.count_documents({"_id": job.id}) == 0


def test_files_of_this_contact_alone_are_deleted_also_after_an_outage_of_their_destination(
    exporting: Exporting, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = exporting.run(contactId=str(PERSON))
    erasing = Erasing(exporting.bench)

    def unavailable(_: Folder) -> None:
        raise DestinationUnavailable

    with monkeypatch.context() as outage:
        outage.setattr(Folder, "remove", unavailable)
        with pytest.raises(DestinationUnavailable):
            erasing.run(PERSON)
    assert erasing.run(PERSON).status == "completed"
    assert not (exporting.root / str(job.id)).exists()


def test_files_of_a_cancelled_export_that_no_worker_has_removed_yet_are_removed(exporting: Exporting) -> None:
    job = exporting.accept()
    for _ in range(3):
        exporting.slice(job, lambda own: exporting.work(at_once(own)))
    exporting.jobs.cancel(job.id)
    assert exporting.strays()
    erase(exporting.bench)
    assert exporting.strays() == []


def test_erasure_that_fails_at_the_files_is_made_good_by_the_next_one(exporting: Exporting) -> None:
    other = ObjectId(f"{2:024x}")
    job = exporting.run()
    manifest = exporting.root / str(job.id) / "manifest.json"
    whole = manifest.read_bytes()
    manifest.write_bytes(whole[:100])
    failed = Erasing(exporting.bench).run(other)
    assert failed.error
    assert (failed.status, failed.error["code"]) == ("failed", "manifest_unreadable")
    assert str(job.id) in failed.error["message"]
    manifest.write_bytes(whole)
    done = Erasing(exporting.bench).run(other)
    assert done.status == "completed", done.error
    assert (done.result or {})["receipt"]["removed"] == {"export files": 1}
    assert [row["_id"] for row in exporting.rows(job)] == [f"{number:024x}" for number in range(5, 11)]
