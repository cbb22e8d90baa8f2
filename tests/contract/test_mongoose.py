"""The Mongoose schema and types of docs/mongoose: need Node and, once, the npm registry; run by `make acceptance`."""

import json
import shutil
import subprocess
from contextlib import closing
from importlib.resources import as_file, files
from pathlib import Path

import pytest
from bson import ObjectId

from support.npm import installed
from worker.domain.requests import SnapshotRequest
from worker.importing import import_files
from worker.runs.run import Run
from worker.service import NewRequest, Receipt, Service
from worker.settings import Settings
from worker.stores import indexes
from worker.stores.connections import Connections

CHECK = Path(__file__).parent.parent / "mongoose"
DOCUMENTED = CHECK.parent.parent / "docs" / "mongoose"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The checks, next to the files that they check, with Mongoose and TypeScript."""
    (tmp_path / "node_modules").symlink_to(installed(CHECK))
    for file in [*DOCUMENTED.iterdir(), *CHECK.glob("check.*")]:
        shutil.copy(file, tmp_path)
    return tmp_path


@pytest.mark.acceptance
@pytest.mark.timeout(180)
def test_types_compile_in_strict_mode(folder: Path) -> None:
    options = ["--noEmit", "--strict", "--target", "es2022", "--module", "nodenext", "--skipLibCheck"]
    command = ["node", "node_modules/typescript/bin/tsc", *options, "check.ts"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout


@pytest.mark.acceptance
@pytest.mark.timeout(180)
def test_snapshots_are_found_populated_validated_and_saved_by_mongoose(settings: Settings, folder: Path) -> None:
    made = _make_snapshots(settings)
    command = ["node", "check.mjs", settings.mongo_url, settings.mongo_database]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["checked"] == made


def _make_snapshots(settings: Settings) -> int:
    """One of each sample conversation, with and without the fields that a request may leave out."""
    organization = ObjectId()
    with closing(Connections(settings)) as connections:
        indexes.ensure(connections)
        with as_file(files("worker.local") / "samples" / "conversations.jsonl") as path:
            import_files([path], organization, connections)
        user = connections.database.users.find_one({"organizationId": organization})
        assert user
        service = Service(connections, lambda *_, **__: None)
        asked = []
        for number, conversation in enumerate(connections.database.conversations.find()):
            body = {"organizationId": organization, "contactId": conversation["contactId"]}
            if number % 2:
                body |= {"conversationId": conversation["_id"], "userId": user["_id"]}
                body |= {"notes": "A note", "tags": ["a", "b"], "quality": "good", "category": "sales"}
            asked.append(NewRequest(SnapshotRequest.read(body), f"request-{number}", "client"))
        receipts = [each for each in service.accept(asked) if isinstance(each, Receipt)]
        return Run(service)([each.id for each in receipts]).completed
