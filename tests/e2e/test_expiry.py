"""Snapshots that are too old are removed by real processes."""

from pathlib import Path

import pytest

from support.stack import stack
from support.waiting import eventually
from worker.closings.policies import Policies
from worker.settings import Settings


@pytest.mark.acceptance
def test_worker_removes_a_snapshot_that_is_too_old_and_announces_it(settings: Settings, tmp_path: Path) -> None:
    with stack(settings, tmp_path, {"RUN_DEADLINE": "1s", "SWEEP_INTERVAL": "1s"}) as running:
        bench = running.bench
        (key,) = bench.accepted(bench.asked(contact := bench.contact(), conversationId=bench.conversation(contact)))
        eventually(lambda: key in bench.snapshots(), 60)
        bench.database.trainingsnapshots.update_one({"_id": key}, {"$set": {"createdAt": bench.ago(days=31)}})
        Policies(bench.connections).set(bench.organization, {"keepFor": ["30d"]})
        bench.database.snapshotstate.delete_one({"_id": "expiry"})  # the sweep looks again at once
        eventually(lambda: bench.snapshots() == {}, 60)
        eventually(lambda: [each for each in bench.events() if each["type"] == "training.retention.completed"], 60)
        (event,) = [each for each in bench.events() if each["type"] == "training.retention.completed"]
        assert event["data"]["removed"] == {"snapshots": 1}
        assert "deletedAt" in bench.entry(key)
