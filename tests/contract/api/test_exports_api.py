"""Exports over HTTP, made by a real worker."""

import hashlib
import json
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from bson import ObjectId

from scripts.json_schemas import schemas
from support.http import EXPORTS
from support.served import Served
from support.waiting import eventually


def completed(served: Served, **body: Any) -> dict[str, Any]:
    """Make an export and wait for its end."""
    answer = served.http.post(EXPORTS, json={"format": "jsonl", **body})
    assert answer.status_code == 202, answer.text
    where = answer.headers["location"]
    assert where == f"{EXPORTS}/{answer.json()['data']['_id']}"

    def ended() -> dict[str, Any]:
        data: dict[str, Any] = served.http.get(where).json()["data"]
        return data if data["status"] not in {"accepted", "running"} else {}

    return eventually(ended, 60)


def test_export_is_made_and_its_files_are_those_of_its_manifest(served: Served) -> None:
    made = served.create(quality="good")
    done = completed(served, quality="good")
    assert (done["status"], done["counts"]["snapshots"], done["error"]) == ("completed", done["counts"]["rows"], None)
    folder = f"{EXPORTS}/{done['_id']}/files"
    manifest = served.http.get(f"{folder}/manifest.json").json()
    for each in manifest["files"]:
        answer = served.http.get(f"{folder}/{each['path']}")
        assert (answer.status_code, len(answer.content)) == (200, each["bytes"])
        head = served.http.head(f"{folder}/{each['path']}")
        assert (head.status_code, head.headers["content-length"]) == (200, str(each["bytes"]))
        assert hashlib.sha256(answer.content).hexdigest() == each["sha256"]
    rows = [json.loads(line) for line in served.http.get(f"{folder}/train.jsonl").text.splitlines()]
    assert made["_id"] in {row["_id"] for row in rows}
    assert done["_id"] in {each["_id"] for each in served.http.get(EXPORTS).json()["data"]}
    events = [event for event in served.running.bench.events() if event["subject"] == done["_id"]]
    (event,) = events
    jsonschema.validate(event, schemas()["training.export.completed.json"])
    assert served.http.delete(f"{EXPORTS}/{done['_id']}").status_code == 200
    assert served.http.get(f"{EXPORTS}/{done['_id']}").status_code == 404
    assert not list(Path(served.exports).glob(f"*{done['_id']}*"))


def test_names_of_files_are_ours(served: Served) -> None:
    served.create()
    folder = f"{EXPORTS}/{completed(served)['_id']}/files"
    for name in ("../../../etc/passwd", "%2e%2e%2fetc%2fpasswd", "/etc/passwd", "", "train", "ids"):
        assert served.http.get(f"{folder}/{name}").status_code == 404


def test_another_organization_finds_nothing(served: Served) -> None:
    served.create()
    made = completed(served)
    other = served.as_("ADMIN", ObjectId())
    for path in (f"{EXPORTS}/{made['_id']}", f"{EXPORTS}/{made['_id']}/files/manifest.json"):
        assert other.get(path).status_code == 404
    assert other.delete(f"{EXPORTS}/{made['_id']}").status_code == 404
    assert other.get(EXPORTS).json()["data"] == []
    answer = other.post(EXPORTS, json={"format": "jsonl"})
    assert (answer.status_code, answer.json()["code"]) == (409, "empty_selection")


@pytest.mark.parametrize("role", ["VIEWER", "AGENT"])
def test_roles_that_may_not_export_start_none(served: Served, role: str) -> None:
    assert served.as_(role).post(EXPORTS, json={"format": "jsonl"}).status_code == 403
    assert served.as_(role).get(EXPORTS).status_code == 403


@pytest.mark.parametrize(
    ("body", "field"),
    [({}, "format"), ({"format": "word"}, "format"), ({"format": "kto", "split": "1/2/3"}, "split")],
)
def test_bad_input_names_the_field(served: Served, body: dict[str, str], field: str) -> None:
    answer = served.http.post(EXPORTS, json=body)
    assert (answer.status_code, [each["field"] for each in answer.json()["errors"]]) == (400, [field])


def test_file_that_an_erasure_has_changed_or_removed_is_served_as_it_is_now(served: Served) -> None:
    served.create()
    made = completed(served)
    folder, files = Path(served.exports) / made["_id"], f"{EXPORTS}/{made['_id']}/files"
    (folder / "ids" / "00000.tsv").write_bytes(b"shorter\n")
    (folder / "train.jsonl").unlink()
    answer = served.http.get(f"{files}/ids/00000.tsv")
    assert (answer.status_code, answer.content) == (200, b"shorter\n")
    removed = served.http.get(f"{files}/train.jsonl")
    assert (removed.status_code, removed.json()["code"]) == (404, "not_found")
