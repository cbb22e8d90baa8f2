"""Retention strips old finished entries to their key and outcome, once."""

import pytest

from support.ledger import Bench
from worker.runs.run import Run
from worker.service import Receipt
from worker.stores.checkpoints import Checkpoints
from worker.sweep import retention
from worker.sweep.retention import Retention


def test_retention_strips_finished_sent_entries_and_removes_none(bench: Bench) -> None:
    keys = bench.chunk(4)
    asked = bench.asked(bench.contact(), "kept", notes="Priya called")
    (kept,) = bench.accepted(asked)
    Run(bench.service)([*keys[:3], kept])
    old = bench.ago(days=100)
    bench.change([kept, keys[0], keys[1]], finishedAt=old)
    bench.change([keys[1]], unsent=True)
    assert Retention(bench.service)() == 2
    assert Retention(bench.service)() == 0
    assert set(bench.entry(keys[0])) == {
        *("_id", "organizationId", "requestId", "bodyHash", "status", "round", "snapshotId", "finishedAt")
    }
    assert bench.entry(keys[1])["unsent"]
    assert "acceptedAt" in bench.entry(keys[2])
    assert bench.entry(keys[3])["status"] == "accepted"
    (again,) = bench.service.accept([asked])
    assert isinstance(again, Receipt)
    assert (again.id, again.created) == (kept, False)
    assert bench.service.redrive([kept]) == []


def test_each_call_continues_where_the_last_one_stopped(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "_BATCH", 2)
    monkeypatch.setattr(retention, "_SECONDS", 0.0)
    keys = bench.chunk(5)
    Run(bench.service)(keys)
    for place, key in enumerate(keys):
        bench.change([key], finishedAt=bench.ago(days=100 - place))
    counts, reached = [], []
    for _ in range(4):
        counts.append(Retention(bench.service)())
        reached.append(Checkpoints(bench.connections).get("retention")["strippedTo"])
    assert (counts, reached == sorted(reached)) == ([2, 2, 1, 0], True)
    assert not any("acceptedAt" in each for each in bench.entries(keys))
    assert bench.ago(days=90, minutes=1) < reached[-1] <= bench.ago(days=90)


def test_entry_that_is_sent_late_is_stripped_afterwards(bench: Bench) -> None:
    late, other = bench.chunk(2)
    Run(bench.service)([late, other])
    bench.change([late], finishedAt=bench.ago(days=100), unsent=True)
    bench.change([other], finishedAt=bench.ago(days=95))
    assert Retention(bench.service)() == 1
    bench.service.ledger.finish([bench.entry(late)], weakly=False)
    assert Retention(bench.service)() == 1
    assert "acceptedAt" not in bench.entry(late)
