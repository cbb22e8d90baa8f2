"""Exports into a bucket of a server that speaks S3, on loopback: see `support.buckets`."""

from collections.abc import Iterator

import pytest

from support.buckets import bucket_server
from support.exporting import Exporting, add_snapshots
from support.ledger import bench_on
from worker.exports.places import open_destination
from worker.exports.verifying import verify
from worker.settings import Settings
from worker.stores import indexes


@pytest.fixture
def exporting(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Exporting]:
    own = settings.model_copy(update={"exports_url": "s3://bucket/sets"})
    with bucket_server(monkeypatch), bench_on(own) as made:
        indexes.ensure(made.connections)
        yield Exporting(made)


@pytest.mark.acceptance
@pytest.mark.filterwarnings("default")
def test_export_into_a_bucket_is_whole_and_leaves_nothing_else(exporting: Exporting) -> None:
    add_snapshots(exporting.bench, 20)
    done = exporting.run(format="messages", split="60/20/20")
    assert done.status == "completed", done.error
    destination = open_destination(exporting.bench.settings, done.id)
    assert verify(destination).faults == {}
    assert {"manifest.json", "train.jsonl"} <= set(destination.paths())
    destination.remove()
    assert destination.paths() == []


@pytest.mark.acceptance
@pytest.mark.filterwarnings("default")
def test_bucket_that_does_not_exist_fails_the_job_with_the_reason(exporting: Exporting) -> None:
    add_snapshots(exporting.bench, 1)
    exporting.bench.service.settings = exporting.bench.settings.model_copy(update={"exports_url": "s3://missing"})
    exporting.bench.settings = exporting.bench.service.settings
    done = exporting.run()
    assert done.error
    assert (done.status, done.error["code"]) == ("failed", "destination_failed")
    assert "s3://missing" in done.error["message"]
