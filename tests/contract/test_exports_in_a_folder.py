"""What an export does to a folder in which others write as well, and with snapshots that others have written."""

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId

from support.erasing import Erasing, erasing_bench
from support.exporting import Exporting, add_snapshots, at_once
from worker.cli.exporting import run_export
from worker.errors import StoreUnavailable
from worker.exports import freezing
from worker.exports.accepting import delete_export
from worker.exports.destination import Folder
from worker.exports.export import Export
from worker.exports.places import open_folder
from worker.exports.verifying import Rebuild, verify
from worker.exports.writing import Part, PartWriter
from worker.jobs.job import Job
from worker.jobs.slices import run_slice
from worker.jobs.store import Jobs
from worker.jobs.upkeep import JobUpkeep
from worker.settings import Settings

PERSON = ObjectId(f"{1:024x}")
"""Whose are the snapshots 0 and 1 of `add_snapshots`."""


@pytest.fixture
def exporting(settings: Settings, tmp_path: Path) -> Iterator[Exporting]:
    with erasing_bench(settings, tmp_path) as bench:
        add_snapshots(bench, 6)
        yield Exporting(bench)


class Command:
    """`snapshots export -o FOLDER`, slice by slice."""

    def __init__(self, exporting: Exporting, folder: Path) -> None:
        self.jobs = exporting.jobs
        self.work = Export(exporting.bench.service, lambda job: open_folder(folder, job.id))
        spec = {"format": "jsonl"}
        self.job = exporting.jobs.accept("export", exporting.bench.organization, spec, local=True)

    def run(self, *, interrupted: bool = False) -> Job:
        work = (lambda own: self.work(at_once(own))) if interrupted else self.work
        run_slice(self.jobs, self.job.id, "test", work, self.work.clean_up, local=True)
        return self.jobs.get(self.job.id)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_second_export_into_the_same_folder_fails_and_the_first_one_stays(exporting: Exporting, tmp_path: Path) -> None:
    folder = tmp_path / "training"
    first, second = Command(exporting, folder), Command(exporting, folder)
    assert first.run().status == "completed"
    before = contents(folder)
    failed = second.run()
    assert failed.error
    assert (failed.status, failed.error["code"]) == ("failed", "destination_failed")
    assert contents(folder) == before
    assert json.loads(before["manifest.json"])["exportId"] == str(first.job.id)
    assert verify(open_folder(folder, ObjectId())).faults == {}
    assert list(tmp_path.glob(".*")) == []


def test_cancelled_export_leaves_what_others_have_put_into_its_folder(exporting: Exporting, tmp_path: Path) -> None:
    for name, content in (("notes.txt", "mine"), ("manifest.json", '{"exportId": 5}'), ("manifest.json", "no JSON")):
        folder = tmp_path / "training"
        command = Command(exporting, folder)
        command.run(interrupted=True)
        folder.mkdir()
        (folder / name).write_text(content)
        exporting.jobs.cancel(command.job.id)
        command.run()
        assert contents(folder) == {name: content.encode()}
        assert list(tmp_path.glob(".*")) == []
        shutil.rmtree(folder)


def test_command_that_loses_mongodb_leaves_no_files(
    exporting: Exporting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They hold conversations, and the next command would not find them, because the lock beside them ends."""
    command = Command(exporting, tmp_path / "training")
    write = PartWriter.write

    def lost(*_: Any) -> None:
        raise StoreUnavailable

    def write_and_lose(writer: PartWriter, *given: Any) -> Part:
        part = write(writer, *given)
        for name in ("save", "interrupt", "cancel"):
            monkeypatch.setattr(Jobs, name, lost)
        return part

    monkeypatch.setattr(PartWriter, "write", write_and_lose)
    monkeypatch.setattr("worker.cli.exporting._OUTAGE", 0.0)
    with pytest.raises(StoreUnavailable):
        run_export(exporting.jobs, command.job, tmp_path / "training")
    assert not (tmp_path / "training").exists()
    assert list(tmp_path.glob(".*")) == []


def test_command_waits_for_mongodb(exporting: Exporting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = Command(exporting, tmp_path / "training")
    write, left = PartWriter.write, [1, 2, 3]

    def fail_at_first(writer: PartWriter, *given: Any) -> Part:
        if left:
            left.pop()
            raise StoreUnavailable
        return write(writer, *given)

    monkeypatch.setattr(PartWriter, "write", fail_at_first)
    assert run_export(exporting.jobs, command.job, tmp_path / "training").status == "completed"
    assert not left


def test_ctrl_c_after_the_end_keeps_the_files(
    exporting: Exporting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = Command(exporting, tmp_path / "training")

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Jobs, "emit_event", interrupt)
    assert run_export(exporting.jobs, command.job, tmp_path / "training").status == "completed"
    assert verify(open_folder(tmp_path / "training", ObjectId())).faults == {}


def test_export_that_an_earlier_slice_publishes_at_the_same_time_is_complete(
    exporting: Exporting, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish = Folder.publish

    def publish_after_another(own: Folder, staged: Mapping[str, str], place: str) -> None:
        publish(own, staged, place)
        publish(own, staged, place)

    monkeypatch.setattr(Folder, "publish", publish_after_another)
    done = exporting.run()
    assert done.status == "completed", done.error
    folder = exporting.root / str(done.id)
    assert verify(open_folder(folder, ObjectId())).faults == {}
    assert list(exporting.root.glob(".*")) == []


def test_no_worker_takes_over_the_export_of_a_command(
    exporting: Exporting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freezing, "_BATCH", 2)
    command = Command(exporting, tmp_path / "training")
    assert command.run(interrupted=True).status == "running"
    assert exporting.bench.published.chunks == []
    before = exporting.jobs.get(command.job.id)
    exporting.slice(command.job)
    assert exporting.jobs.get(command.job.id) == before
    assert command.run().status == "completed"


def test_export_of_a_command_begins_again_without_a_person_who_is_erased(exporting: Exporting, tmp_path: Path) -> None:
    folder = tmp_path / "training"
    command = Command(exporting, folder)
    command.run(interrupted=True)
    receipt = (Erasing(exporting.bench).run(PERSON).result or {})["receipt"]
    assert receipt["removed"]["exports restarted"] == 1
    done = command.run()
    assert done.status == "completed", done.error
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    assert [row["_id"] for row in rows] == [f"{number:024x}" for number in range(3, 7)]
    assert "deleted" not in (folder / "ids" / "00000.tsv").read_text()
    assert list(tmp_path.glob(".*")) == []


def test_files_of_a_command_that_was_killed_before_it_recorded_them_are_reported(
    exporting: Exporting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "training"
    command = Command(exporting, folder)

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(command.jobs, "complete", killed)
        with pytest.raises(KeyboardInterrupt):
            command.run()
    assert verify(open_folder(folder, ObjectId())).faults == {}
    exporting.bench.advance(minutes=5)
    JobUpkeep(exporting.bench.service)()
    failed = exporting.jobs.get(command.job.id)
    assert failed.error
    assert (failed.status, failed.error["code"]) == ("failed", "worker_lost")
    assert "`snapshots exports verify FOLDER`" in failed.error["message"]
    receipt = (Erasing(exporting.bench).run(PERSON).result or {})["receipt"]
    assert receipt["removed"]["exports elsewhere"] == 1, "the person may be in these files"


def test_command_that_was_killed_while_it_wrote_has_no_files_to_report(
    exporting: Exporting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freezing, "SHARD_ROWS", 2)
    command = Command(exporting, tmp_path / "training")
    command.run(interrupted=True)
    exporting.bench.advance(minutes=5)
    JobUpkeep(exporting.bench.service)()
    failed = exporting.jobs.get(command.job.id)
    assert failed.error
    assert failed.error["message"] == "The command that ran this job was killed. Run the command again."


class Late(Folder):
    """A slice that publishes although an erasure has let its export begin again."""

    interrupt: Any = None

    def publish(self, staged: Mapping[str, str], place: str) -> None:
        if interrupt := Late.interrupt:
            Late.interrupt = None
            kept = self._staging.with_name("kept")
            shutil.copytree(self._staging, kept)
            interrupt()
            kept.rename(self._staging)
        super().publish(staged, place)


def test_slice_that_publishes_after_an_erasure_brings_nobody_back(exporting: Exporting) -> None:
    work = Export(
        exporting.bench.service,
        lambda job: Late(exporting.root / str(job.id), exporting.root / f".{job.id}"),
    )
    erasing = Erasing(exporting.bench)
    Late.interrupt = lambda: erasing.run(PERSON)
    job = exporting.accept()
    for _ in range(10):
        exporting.slice(job, work)
    done = exporting.jobs.get(job.id)
    assert done.status == "completed", done.error
    assert [row["_id"] for row in exporting.rows(done)] == [f"{number:024x}" for number in range(3, 7)]
    assert exporting.manifest(done)["counts"] == (done.result or {})["counts"]
    assert exporting.strays() == []


def test_export_that_is_deleted_before_it_is_cleaned_leaves_nothing_in_the_database(
    exporting: Exporting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freezing, "_BATCH", 2)
    job = exporting.accept()
    exporting.slice(job, lambda own: exporting.work(at_once(own)))
    assert exporting.bench.database.snapshotexports.count_documents({}) > 0
    exporting.jobs.cancel(job.id)
    delete_export(exporting.bench.service, exporting.jobs.get(job.id))
    assert exporting.bench.database.snapshotexports.count_documents({}) == 0


@pytest.mark.parametrize(
    "odd",
    [
        {"redaction": {"counts": 5}},
        {"redaction": {"counts": {"email": "two", "phone": 1}}},
        {"redaction": {"policy": 1}},
        {"contentHash": "a\tb\nc"},
        {"contentHash": "ümlaut"},
    ],
    ids=str,
)
def test_snapshot_of_the_platform_with_odd_fields_spoils_no_export(
    exporting: Exporting, odd: dict[str, Any], tmp_path: Path
) -> None:
    add_snapshots(exporting.bench, 1, first=50, **odd)
    done = exporting.run()
    assert done.status == "completed", done.error
    assert len(exporting.rows(done)) == 7
    source = open_folder(exporting.root / str(done.id), done.id)
    assert Rebuild(exporting.bench.service, source)(open_folder(tmp_path / "again", ObjectId())) == []
