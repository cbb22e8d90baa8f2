"""The split of 100,000 contacts in real exports, and again with 10,000 more snapshots."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from bson import ObjectId

from support.exporting import Exporting, add_snapshots, snapshot
from support.ledger import bench_on
from worker.jobs.job import Job
from worker.settings import Settings
from worker.stores import indexes

CONTACTS, MORE = 100_000, 10_000
SHARES = {"train": 0.9, "validation": 0.05, "test": 0.05}


@pytest.fixture
def exporting(settings: Settings, tmp_path: Path) -> Iterator[Exporting]:
    with bench_on(settings.model_copy(update={"exports_url": str(tmp_path / "exports")})) as made:
        indexes.ensure(made.connections)
        yield Exporting(made)


def sides_of(exporting: Exporting, job: Job) -> dict[str, str]:
    """Return the side of each contact; fails if one is on two sides, or a share is off by a point."""
    sides: dict[str, str] = {}
    rows: Counter[str] = Counter()
    for path in (exporting.root / str(job.id)).glob("*.jsonl"):
        side = path.name.partition("-")[0].removesuffix(".jsonl")
        with path.open() as lines:
            for each in map(json.loads, lines):
                assert sides.setdefault(each["contactId"], side) == side
                rows[side] += 1
    for side, share in SHARES.items():
        assert abs(rows[side] / rows.total() - share) < 0.01
    return sides


@pytest.mark.acceptance
@pytest.mark.timeout(1800)
def test_nobody_of_100_000_contacts_changes_sides_when_10_000_snapshots_are_added(exporting: Exporting) -> None:
    bench = exporting.bench
    for first in range(0, 2 * CONTACTS, 10_000):  # two snapshots in a row are of one contact; keep the first of them
        made = [snapshot(bench, number, messages=2) for number in range(first, first + 10_000, 2)]
        bench.database.trainingsnapshots.insert_many(made)
    before = sides_of(exporting, exporting.run(split="90/5/5"))
    assert len(before) == CONTACTS
    # Half of them are of contacts that are there already.
    again = [snapshot(bench, number, _id=ObjectId(), messages=2) for number in range(0, MORE, 2)]
    bench.database.trainingsnapshots.insert_many(again)
    add_snapshots(bench, MORE // 2, 2 * CONTACTS, messages=2)
    after = sides_of(exporting, exporting.run(split="90/5/5"))
    assert len(after) == CONTACTS + MORE // 4
    assert before.items() <= after.items()
