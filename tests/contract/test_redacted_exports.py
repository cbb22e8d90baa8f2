"""Exports that redact: the rows, the manifest, and the same bytes again."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from bson import ObjectId

from support.exporting import Exporting, add_snapshots
from support.ledger import bench_on
from worker.domain.assembly import hash_of_messages
from worker.errors import InvalidRequest
from worker.exports import freezing
from worker.exports.places import open_folder
from worker.exports.verifying import Rebuild, verify
from worker.settings import Settings
from worker.stores import indexes


@pytest.fixture
def exporting(settings: Settings, tmp_path: Path) -> Iterator[Exporting]:
    with bench_on(settings.model_copy(update={"exports_url": str(tmp_path / "exports")})) as made:
        indexes.ensure(made.connections)
        add_snapshots(made, 3)
        contents = {"messages.0.content": "I am Anna, anna@x.de or 0170 1234567", "customerName": "Anna Schmidt"}
        fields = {"notes": "ask b@x.de", "redaction": {"policy": 2, "counts": {"card": 1}}}
        made.database.trainingsnapshots.update_many({}, {"$set": {**contents, **fields, "customerEmail": "anna@x.de"}})
        yield Exporting(made)


def test_rows_are_redacted_and_the_database_is_not(exporting: Exporting) -> None:
    before = list(exporting.bench.database.trainingsnapshots.find())
    done = exporting.run(redact=["email", "phone", "name"], redactRegions=["DE"])
    for row in exporting.rows(done):
        assert row["messages"][0]["content"] == "I am [NAME_1], [EMAIL_1] or [PHONE_1]"
        assert (row["notes"], row["customerName"], row["customerEmail"]) == ("ask [EMAIL_2]", "[NAME_1]", "[EMAIL_1]")
    assert list(exporting.bench.database.trainingsnapshots.find()) == before
    redaction = exporting.manifest(done)["redaction"]
    assert redaction["export"]["kinds"] == ["email", "phone", "name"]
    assert redaction["export"]["counts"] == {"email": 9, "name": 6, "phone": 3}
    assert redaction["capture"] == {"policies": {"2": 3}, "counts": {"card": 3}}


def test_labels_are_redacted_in_the_counts_too(exporting: Exporting) -> None:
    exporting.bench.database.trainingsnapshots.update_many({}, {"$set": {"quality": "good for b@x.de"}})
    manifest = exporting.manifest(exporting.run(redact=["email"]))
    assert "b@x.de" not in json.dumps(manifest)
    assert sum(manifest["counts"]["quality"].values()) == 3


def test_names_of_agents_are_those_of_the_platform(exporting: Exporting) -> None:
    bench = exporting.bench
    first, second, *_ = bench.database.trainingsnapshots.find()
    resolver, asker = ObjectId(), ObjectId()
    organization = {"organizationId": bench.organization}
    bench.database.users.insert_many(
        [
            {"_id": resolver, "firstName": "Ottokar", "lastName": "Blum", **organization},
            {"_id": asker, "firstName": "Wanda", "lastName": "Zweig", **organization},
            {"firstName": "Hans", "lastName": "Fremd", **organization},
        ]
    )
    bench.database.conversations.insert_one({"_id": first["conversationId"], "resolvedBy": resolver, **organization})
    content = "Ottokar Blum, Wanda Zweig and Hans Fremd"
    bench.database.trainingsnapshots.update_many({}, {"$set": {"messages.1.content": content, "userId": "?"}})
    bench.database.trainingsnapshots.update_one({"_id": second["_id"]}, {"$set": {"userId": asker}})
    rows = {row["_id"]: row["messages"][1]["content"] for row in exporting.rows(exporting.run(redact=["name"]))}
    assert rows[str(first["_id"])] == "[NAME_2], Wanda Zweig and Hans Fremd"
    assert rows[str(second["_id"])] == "Ottokar Blum, [NAME_2] and Hans Fremd"


def test_content_hash_is_that_of_the_messages_in_the_row(exporting: Exporting) -> None:
    stored = exporting.bench.database.trainingsnapshots.find_one()
    hashes = {row["_id"]: row["contentHash"] for row in exporting.rows(exporting.run(redact=["email"]))}
    stored["messages"][0]["content"] = "I am Anna, [EMAIL_1] or 0170 1234567"
    assert hashes[str(stored["_id"])] == hash_of_messages(stored["messages"])
    unchanged = {row["_id"]: row["contentHash"] for row in exporting.rows(exporting.run(redact=["iban"]))}
    assert unchanged[str(stored["_id"])] == stored["contentHash"]


def test_redacted_export_verifies_and_is_rebuilt_with_the_same_bytes(exporting: Exporting, tmp_path: Path) -> None:
    done = exporting.run(redact=["email"])
    source = open_folder(exporting.root / str(done.id), done.id)
    assert verify(source).faults == {}
    assert Rebuild(exporting.bench.service, source)(open_folder(tmp_path / "again", ObjectId())) == []


def test_export_that_redacts_nothing_has_no_trace_of_it(exporting: Exporting) -> None:
    exporting.bench.database.trainingsnapshots.update_many({}, {"$unset": {"redaction": ""}})
    manifest = exporting.manifest(exporting.run())
    assert "redact" not in json.dumps(manifest)


@pytest.mark.parametrize(
    ("given", "fault"),
    [({"redact": ["emial"]}, "kinds of personal data"), ({"redactRegions": ["DE"]}, "needs redact")],
)
def test_unknown_kinds_and_regions_without_kinds_are_refused(
    exporting: Exporting, given: dict[str, object], fault: str
) -> None:
    with pytest.raises(InvalidRequest, match=fault):
        exporting.accept(**given)


def test_names_of_agents_are_redacted_where_ids_are_stored_as_text(exporting: Exporting) -> None:
    bench = exporting.bench
    user = ObjectId()
    bench.database.users.insert_one({"_id": user, "firstName": "Ottokar", "organizationId": bench.organization})
    for each in list(bench.database.trainingsnapshots.find()):
        texts = {"contactId": str(each["contactId"]), "userId": str(user), "messages.1.content": "Ottokar here"}
        bench.database.trainingsnapshots.update_one({"_id": each["_id"]}, {"$set": texts})
    rows = exporting.rows(exporting.run(redact=["name"]))
    assert len(rows) == 3
    assert "Ottokar" not in json.dumps(rows)


def test_files_are_small_enough_to_be_redacted_in_one_slice(
    exporting: Exporting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freezing, "REDACTED_ROWS", 2)
    names = [name for name in exporting.content(exporting.run(redact=["email"])) if "jsonl" in name]
    assert names == ["train-00000-of-00002.jsonl", "train-00001-of-00002.jsonl"]
    assert "train.jsonl" in exporting.content(exporting.run())
