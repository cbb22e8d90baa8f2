"""`snapshots export` and `snapshots exports`: what they print, and how they exit."""

import json
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId
from pymongo.database import Database

from support.commands import run
from support.contacts import contact_with
from support.pipeline import accept, run_accepted
from worker.service import Service

Env = dict[str, str]
Own = Database[dict[str, Any]]


@pytest.fixture
def organization(own: Own, service: Service) -> ObjectId:
    """An organization with three snapshots, all without a quality."""
    contact = contact_with(own, 2, 3, 4)
    for conversation in contact.conversations:
        accept(service, contact.organization, contact.id, str(conversation), conversationId=conversation)
    run_accepted(service)
    return contact.organization


@pytest.fixture
def exported(env: Env, organization: ObjectId, tmp_path: Path) -> Path:
    folder = tmp_path / "exported"
    ended = run(env, "export", "--organization", organization, "--format", "jsonl", "-o", folder)
    assert (ended.code, ended.stderr) == (0, "")
    assert "3 rows from 3 snapshots, format jsonl\n  train: 3\n" in ended.stdout
    return folder


def test_unchanged_files_are_verified_and_made_again(env: Env, exported: Path) -> None:
    assert run(env, "exports", "verify", exported).code == 0
    again = exported.parent / "again"
    rebuilt = run(env, "exports", "rebuild", exported, "-o", again, "--json")
    assert (rebuilt.code, rebuilt.json) == (0, {"rebuilt": str(again), "different": []})
    files = [path.relative_to(exported) for path in exported.rglob("*") if path.is_file()]
    assert [(again / path).read_bytes() for path in files] == [(exported / path).read_bytes() for path in files]


def test_id_of_an_export_whose_files_are_elsewhere_says_so(
    env: Env, own: Own, exported: Path, organization: ObjectId
) -> None:
    (job,) = own.snapshotjobs.find({"organizationId": organization})
    for command in (["verify"], ["rebuild", "-o", exported.parent / "again"]):
        ended = run(env, "exports", command[0], job["_id"], *command[1:])
        assert ended.code == 1
        assert f"Export {job['_id']} was written by a command: give its folder instead of its id." in ended.stderr
    own.snapshotjobs.update_one({"_id": job["_id"]}, {"$set": {"status": "failed"}, "$unset": {"local": ""}})
    ended = run(env, "exports", "verify", job["_id"])
    assert ended.code == 1
    assert f"Export {job['_id']} has no files: its status is failed." in ended.stderr


def test_export_without_a_usable_snapshot_fails(env: Env, organization: ObjectId, tmp_path: Path) -> None:
    ended = run(env, "export", "--organization", organization, "--format", "kto", "-o", tmp_path / "kto")
    assert ended.code == 1
    assert ended.stderr.startswith("Export ")
    assert "not_rated (3)" in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_file_that_was_changed_is_named(env: Env, exported: Path) -> None:
    with (exported / "train.jsonl").open("a") as file:
        file.write("{}\n")
    ended = run(env, "exports", "verify", exported)
    assert ended.code == 1
    assert "train.jsonl has " in ended.stdout


def test_edited_snapshot_is_named(env: Env, own: Own, exported: Path) -> None:
    edited = own.trainingsnapshots.find_one_and_update({}, {"$set": {"notes": "edited"}})
    assert edited is not None
    ended = run(env, "exports", "rebuild", exported, "-o", exported.parent / "again")
    assert ended.code == 1
    assert "1 edited" in ended.stderr
    assert str(edited["_id"]) in ended.stderr
    assert not (exported.parent / "again").exists()


DAMAGED = [
    ({"files": None}, "files: Input should be a valid list"),
    ({"spec": []}, "spec: Input should be a valid dictionary"),
    ({"format": {}}, "format.version: Field required"),
    ({"files": [{"path": "../../outside", "kind": "data", "bytes": 1, "sha256": ""}]}, "should be a path inside"),
    ({"files": [{"path": "/outside", "kind": "data", "bytes": 1, "sha256": ""}]}, "should be a path inside"),
]


@pytest.mark.parametrize("command", ["verify", "rebuild"])
def test_damaged_manifest_is_named_in_one_line(env: Env, exported: Path, command: str) -> None:
    manifest = exported / "manifest.json"
    whole = json.loads(manifest.read_text())
    output = ["-o", exported.parent / "again"] if command == "rebuild" else []
    for change, said in DAMAGED:
        manifest.write_text(json.dumps(whole | change))
        ended = run(env, "exports", command, exported, *output)
        assert (ended.code, ended.stderr.count("\n")) == (1, 1)
        assert said in ended.stderr


def test_damaged_list_of_ids_is_not_made_into_an_export(env: Env, exported: Path) -> None:
    (exported / "ids" / "00000.tsv").write_text("no id\n")
    ended = run(env, "exports", "rebuild", exported, "-o", exported.parent / "again")
    assert ended.code == 1
    assert "ids/00000.tsv" in ended.stderr
    assert ended.stderr.count("\n") == 1
