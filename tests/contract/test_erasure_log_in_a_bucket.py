"""The log of erasures in a bucket of a server that speaks S3, on loopback: see `support.buckets`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.buckets import bucket_server
from support.erasing import Erasing, erasing_bench, person
from support.ledger import Bench
from worker.doctor import erasure_checks
from worker.doctor.findings import Level
from worker.erasure.accepting import lift
from worker.erasure.restoring import restore
from worker.errors import ContactErased, InvalidSettings
from worker.jobs.store import Jobs
from worker.service import Receipt
from worker.settings import Settings

pytestmark = [pytest.mark.acceptance, pytest.mark.filterwarnings("default")]


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    with bucket_server(monkeypatch) as files:
        yield files


@pytest.fixture
def bench(files: Any, settings: Settings, tmp_path: Path) -> Iterator[Bench]:
    with erasing_bench(settings.model_copy(update={"erasure_log": "s3://bucket/erasures"}), tmp_path) as made:
        yield made


def test_tombstones_come_back_from_one_object_for_each_entry(bench: Bench, files: Any) -> None:
    contact, lifted = person(bench), bench.contact()
    for each in (contact, lifted):
        Erasing(bench).run(each)
    lift(Jobs(bench.service), bench.organization, lifted)
    assert len(files.find("bucket/erasures")) == 3
    assert not any(str(contact).encode() in files.cat_file(path) for path in files.find("bucket"))
    files.pipe_file("bucket/erasures/9", b'{"hash": "ab')
    bench.database.snapshoterasures.delete_many({})
    (fault,) = [each.message for each in erasure_checks.check(bench.service) if each.level is Level.FAILURE]
    assert "2 tombstones are missing" in fault

    assert restore(bench.service) == 2

    refused, accepted = bench.service.accept([bench.asked(contact), bench.asked(lifted)])
    assert isinstance(refused, ContactErased)
    assert isinstance(accepted, Receipt)
    assert restore(bench.service) == 0


def test_bucket_that_does_not_exist_refuses_the_erasure_and_the_start(bench: Bench) -> None:
    contact = person(bench)
    other = bench.another(erasure_log="s3://missing/erasures")
    with pytest.raises(InvalidSettings, match=r"SNAPSHOTS_ERASURE_LOG: .*s3://missing/erasures"):
        Erasing(other).accept(contact)
    with pytest.raises(InvalidSettings, match=r"SNAPSHOTS_ERASURE_LOG: .*s3://missing/erasures"):
        restore(other.service)
    other.connections.close()
    assert bench.database.snapshoterasures.count_documents({}) == 0


@pytest.mark.parametrize("url", ["s3://bucket", "s3://", "gs://bucket/prefix"])
def test_other_urls_are_refused(bench: Bench, url: str) -> None:
    other = bench.another(erasure_log=url)
    with pytest.raises(InvalidSettings, match="should be a file, or s3://bucket/prefix"):
        restore(other.service)
    other.connections.close()
