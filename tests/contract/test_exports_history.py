"""Selections that take longer than MongoDB keeps its history."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId
from pymongo.errors import OperationFailure

from support.exporting import Exporting, add_snapshots, at_once
from support.ledger import Bench, bench_on
from support.waiting import eventually
from worker.exports import freezing
from worker.jobs.job import Job
from worker.settings import Settings
from worker.stores import indexes


@pytest.fixture
def exporting(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Exporting]:
    monkeypatch.setattr(freezing, "_BATCH", 4)
    with bench_on(settings.model_copy(update={"exports_url": str(tmp_path / "exports")})) as made:
        indexes.ensure(made.connections)
        yield Exporting(made)


def half_selected(exporting: Exporting, **given: Any) -> Job:
    """An export that has selected the first 8 of 20 snapshots, at a moment whose history MongoDB has forgotten."""
    add_snapshots(exporting.bench, 20)
    job = exporting.accept(**given)
    while len(selected(exporting, job)) < 8:
        exporting.slice(job, lambda own: exporting.work(at_once(own)))
    forget(exporting.bench, state(exporting, job)["at"])
    return job


def state(exporting: Exporting, job: Job) -> dict[str, Any]:
    return dict(exporting.jobs.get(job.id).checkpoint or {})


def selected(exporting: Exporting, job: Job) -> list[ObjectId]:
    found = exporting.bench.database.snapshotexports.find({"job": job.id, "entries": {"$exists": True}})
    return [entry["_id"] for document in found for entry in document["entries"]]


def forget(bench: Bench, moment: Any) -> None:
    """Let MongoDB forget how the snapshots were at a moment."""
    admin = bench.connections.mongo.admin
    window = "minSnapshotHistoryWindowInSeconds"
    before = admin.command({"getParameter": 1, window: 1})[window]
    concern = {"level": "snapshot", "atClusterTime": moment}

    def is_forgotten() -> bool:
        bench.database.test.update_one({"_id": 0}, {"$inc": {"writes": 1}}, upsert=True)
        try:
            bench.database.command({"find": "trainingsnapshots", "limit": 1, "readConcern": concern})
        except OperationFailure as error:
            return error.code == 239
        return False

    admin.command({"setParameter": 1, window: 0})
    try:
        assert eventually(is_forgotten, 30, 0.05)
    finally:
        admin.command({"setParameter": 1, window: before})


def finish(exporting: Exporting, job: Job) -> Job:
    for _ in range(100):
        if (now := exporting.jobs.get(job.id)).is_finished:
            return now
        exporting.slice(job)
    raise AssertionError(state(exporting, job))


@pytest.mark.parametrize("given", [{}, {"split": "60/20/20", "dedupe": True}])
def test_selection_continues_at_a_later_moment(exporting: Exporting, given: dict[str, Any]) -> None:
    job = half_selected(exporting, **given)
    first = state(exporting, job)
    snapshots = exporting.bench.database.trainingsnapshots
    keys = [each["_id"] for each in snapshots.find().sort("_id", 1)]
    snapshots.update_one({"_id": keys[2]}, {"$set": {"notes": "edited", "tags": []}})
    snapshots.update_one({"_id": keys[15]}, {"$set": {"notes": "edited"}})
    snapshots.delete_one({"_id": keys[5]})
    add_snapshots(exporting.bench, 1, first=50)
    exporting.slice(job)
    now = state(exporting, job)
    assert (now["after"], now["restarts"]) == (keys[7], 0)
    assert now["moment"] > first["moment"]
    done = finish(exporting, job)
    rows = {row["_id"]: row for row in exporting.rows(done)}
    assert len(rows) == 20
    assert str(keys[5]) not in rows
    assert [each["notes"] for each in rows.values()].count("edited") == 2
    assert rows[str(keys[2])]["tags"] == []
    assert exporting.manifest(done)["counts"]["skipped"] == {"deleted": 1}


def test_selection_whose_members_have_changed_starts_again(exporting: Exporting) -> None:
    job = half_selected(exporting)
    snapshots = exporting.bench.database.trainingsnapshots
    archived = snapshots.find_one_and_update({"_id": selected(exporting, job)[2]}, {"$set": {"isArchived": True}})
    exporting.slice(job)
    assert (state(exporting, job)["after"], state(exporting, job)["restarts"]) == (None, 1)
    rows = exporting.rows(finish(exporting, job))
    assert len(rows) == 19
    assert str(archived["_id"]) not in {row["_id"] for row in rows}


def test_stratified_selection_starts_again(exporting: Exporting) -> None:
    job = half_selected(exporting, split="60/20/20", stratify="quality")
    exporting.slice(job)
    assert state(exporting, job)["restarts"] == 1
    assert exporting.manifest(finish(exporting, job))["counts"]["snapshots"] == 20


def test_interrupted_selection_has_the_bytes_of_one_that_was_not(exporting: Exporting) -> None:
    job = half_selected(exporting, split="60/20/20", dedupe=True)
    assert exporting.content(finish(exporting, job)) == exporting.content(exporting.run(split="60/20/20", dedupe=True))
    assert exporting.bench.database.snapshotexports.count_documents({}) == 0
