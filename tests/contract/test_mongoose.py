"""Our documents under the platform's Mongoose: needs Node and, once, the npm registry, so `make acceptance` runs it."""

import json
import subprocess
from contextlib import closing
from importlib.resources import as_file, files
from pathlib import Path

import pytest
from bson import ObjectId

from worker.domain.requests import SnapshotRequest
from worker.importing import import_files
from worker.runs.run import Run
from worker.service import Asked, Receipt, Service
from worker.settings import Settings
from worker.stores import indexes
from worker.stores.connections import Connections

CHECK = Path(__file__).parent.parent / "mongoose"


@pytest.mark.acceptance
@pytest.mark.timeout(180)
def test_snapshots_are_found_populated_validated_and_saved_by_mongoose(settings: Settings) -> None:
    if not (CHECK / "node_modules").exists():
        subprocess.run(["npm", "ci", "--silent"], cwd=CHECK, check=True, timeout=120)
    made = _make_snapshots(settings)
    command = ["node", "check.mjs", settings.mongo_url, settings.mongo_database]
    done = subprocess.run(command, cwd=CHECK, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["checked"] == made


def _make_snapshots(settings: Settings) -> int:
    """One of each sample conversation, with and without the fields that a request may leave out."""
    organization = ObjectId()
    with closing(Connections(settings)) as connections:
        indexes.ensure(connections)
        with as_file(files("worker") / "local" / "samples" / "conversations.jsonl") as path:
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
            asked.append(Asked(SnapshotRequest.read(body), f"request-{number}", "client"))
        receipts = [each for each in service.accept(asked) if isinstance(each, Receipt)]
        return Run(service)([each.id for each in receipts]).completed
