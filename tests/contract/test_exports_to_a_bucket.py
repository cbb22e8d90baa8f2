"""Exports into a bucket of a server that speaks S3, on loopback.

It is that of moto, which nothing else needs: the tests are skipped without `pip install moto flask flask-cors`.
"""

from collections.abc import Iterator

import pytest

from support.exporting import Exporting, add_snapshots
from support.ledger import bench_on
from worker.exports.places import open_destination
from worker.exports.verifying import verify
from worker.settings import Settings
from worker.stores import indexes


@pytest.fixture
def exporting(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Exporting]:
    fsspec = pytest.importorskip("fsspec")
    server = pytest.importorskip("moto.server", reason="moto is not installed").ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    fsspec.get_filesystem_class("s3").clear_instance_cache()  # they know the address of an earlier server
    fsspec.filesystem("s3").makedirs("bucket", exist_ok=True)
    with bench_on(settings.model_copy(update={"exports_url": "s3://bucket/sets"})) as made:
        indexes.ensure(made.connections)
        yield Exporting(made)
    server.stop()


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
