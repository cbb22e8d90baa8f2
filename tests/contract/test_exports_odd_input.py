"""Exports of odd snapshots, with rare filters, and rebuilds from a manifest that others have written."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId

from support.exporting import Exporting, add_snapshots, snapshot
from support.ledger import bench_on
from worker.exports import freezing
from worker.exports.history import History, ReadTooSlow
from worker.exports.places import open_folder
from worker.exports.verifying import ManifestUnreadable, Rebuild, verify
from worker.settings import Settings
from worker.stores import indexes


@pytest.fixture
def exporting(settings: Settings, tmp_path: Path) -> Iterator[Exporting]:
    with bench_on(settings.model_copy(update={"exports_url": str(tmp_path / "exports")})) as made:
        indexes.ensure(made.connections)
        yield Exporting(made)


@pytest.mark.parametrize("form", ["kto", "messages", "sharegpt"])
def test_export_without_rows_fails_however_many_files_it_would_have(
    exporting: Exporting, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setattr(freezing, "SHARD_ROWS", 2)
    add_snapshots(exporting.bench, 7, quality=None, messages=1)
    exporting.bench.database.trainingsnapshots.update_many({}, {"$set": {"quality": None}, "$unset": {"messages": ""}})
    done = exporting.run(format=form)
    assert done.error
    assert (done.status, done.error["code"]) == ("failed", "nothing_representable")
    assert exporting.strays() == []


@pytest.mark.parametrize("odd", [5, "text", [{"content": "a"}], None])
def test_messages_that_are_no_objects_are_malformed_although_fields_are_left_out(
    exporting: Exporting, odd: object
) -> None:
    add_snapshots(exporting.bench, 3)
    snapshots = exporting.bench.database.trainingsnapshots
    snapshots.update_one({"_id": snapshots.find_one()["_id"]}, {"$push": {"messages": odd}})
    done = exporting.run(format="messages")
    assert done.result
    assert done.result["counts"]["skipped"] == {"malformed_messages": 1}


def test_filter_that_few_snapshots_match_is_read_in_windows(
    exporting: Exporting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No index has a tag, and one read for the next matches would examine all snapshots."""
    monkeypatch.setattr(freezing, "_WINDOW", 10)
    read = History.read

    def slow(self: History, at: Any, projection: Any, count: int, which: Any, seconds: float | None = None) -> Any:
        if seconds is not None:
            raise ReadTooSlow
        return read(self, at, projection, count, which)

    monkeypatch.setattr(History, "read", slow)
    bench = exporting.bench
    add_snapshots(bench, 95)
    rare = [snapshot(bench, number)["_id"] for number in (0, 41, 42, 94)]
    bench.database.trainingsnapshots.update_many({"_id": {"$in": rare}}, {"$set": {"tags": ["rare"]}})
    for given in ({}, {"split": "50/25/25", "stratify": "quality"}):
        bench.database.command("profile", 2)
        done = exporting.run(tag="rare", **given)
        bench.database.command("profile", 0)
        assert sorted(row["_id"] for row in exporting.rows(done)) == sorted(map(str, rare))
        profile = bench.database["system.profile"]
        ours = {"ns": bench.database.trainingsnapshots.full_name, "command.readConcern.level": "snapshot"}
        examined = [each["docsExamined"] for each in profile.find(ours)]
        profile.drop()
        assert len(examined) >= 20
        assert max(examined) <= 10
    assert len(exporting.rows(exporting.run())) == 95


def test_snapshots_whose_id_is_no_object_id_are_left_out_and_stop_nothing(exporting: Exporting) -> None:
    bench = exporting.bench
    add_snapshots(bench, 3)
    odd = [{**snapshot(bench, 50), "_id": key, "contactId": None} for key in ("text", 7, {"a": 1})]
    bench.database.trainingsnapshots.insert_many(odd)
    for given in ({}, {"redact": ["name"]}, {"split": "50/25/25", "stratify": "quality"}):
        assert len(exporting.rows(exporting.run(**given))) == 3


def test_person_whose_id_is_stored_as_text_is_on_one_side(exporting: Exporting) -> None:
    bench = exporting.bench
    people = [ObjectId() for _ in range(30)]
    made = [snapshot(bench, number, contactId=people[number % 30]) for number in range(60)]
    for each in made[30:]:
        each["contactId"] = str(each["contactId"]).upper()
    bench.database.trainingsnapshots.insert_many(made)
    done = exporting.run(split="34/33/33")
    sides: dict[str, set[str]] = {}
    for name, data in exporting.files(done).items():
        for line in data.splitlines() if name.endswith(".jsonl") else ():
            sides.setdefault(json.loads(line)["contactId"].lower(), set()).add(name)
    assert len(sides) == 30
    assert {len(each) for each in sides.values()} == {1}


def test_odd_redaction_of_the_platform_does_not_stop_an_export(exporting: Exporting) -> None:
    add_snapshots(exporting.bench, 2)
    for odd in ("a\0b", None, [1], {"a": 1}):
        change = {"$set": {"redaction": {"policy": odd, "counts": {"card": 1}}}}
        exporting.bench.database.trainingsnapshots.update_many({}, change)
        assert len(exporting.rows(exporting.run())) == 2


# --- manifests that others have written ----------------------------------------------------------------------


def changed(folder: Path, **fields: Any) -> Path:
    """The folder, with fields of its manifest replaced."""
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
    return folder


@pytest.mark.parametrize("path", ["../../outside", "{tmp}/outside", "a\0b"])
@pytest.mark.parametrize("place", ["files", "stale"])
def test_manifest_with_a_path_outside_of_the_export_is_refused(
    exporting: Exporting, tmp_path: Path, path: str, place: str
) -> None:
    add_snapshots(exporting.bench, 2)
    folder = exporting.root / str(exporting.run().id)
    path = path.format(tmp=tmp_path)
    (folder / "ids/00000.tsv").write_bytes(b"")
    ids = {"path": "ids/00000.tsv", "kind": "ids", "bytes": 0, "sha256": hashlib.sha256(b"").hexdigest()}
    if place == "files":
        changed(folder, files=[ids, {**ids, "path": path}])
    else:
        changed(folder, files=[ids], stale={"files": {path: "ids/00000.tsv"}})
    source = open_folder(folder, ObjectId())
    with pytest.raises(ManifestUnreadable, match="should be a path inside the export"):
        verify(source)
    with pytest.raises(ManifestUnreadable, match="should be a path inside the export"):
        Rebuild(exporting.bench.service, source)
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize("content", [b"no id\t\t\t1\n", b"one\n", b"\xff\t\t\t\n"])
def test_list_of_ids_that_is_none_is_named(exporting: Exporting, tmp_path: Path, content: bytes) -> None:
    add_snapshots(exporting.bench, 2)
    folder = exporting.root / str(exporting.run().id)
    files = json.loads((folder / "manifest.json").read_text())["files"]
    (folder / "ids/00000.tsv").write_bytes(content)
    for each in files:
        if each["path"] == "ids/00000.tsv":
            each |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    again = Rebuild(exporting.bench.service, open_folder(changed(folder, files=files), ObjectId()))
    with pytest.raises(ManifestUnreadable, match=r"ids/00000\.tsv of .* is not a list of ids"):
        again(open_folder(tmp_path / "again", ObjectId()))


def test_export_that_this_version_cannot_make_is_named(exporting: Exporting) -> None:
    add_snapshots(exporting.bench, 2)
    folder = changed(exporting.root / str(exporting.run().id), spec={"format": "no such format"})
    with pytest.raises(ManifestUnreadable, match="is not valid for this version: format is not"):
        Rebuild(exporting.bench.service, open_folder(folder, ObjectId()))
