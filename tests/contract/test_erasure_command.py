"""`snapshots erase`, as a terminal sees it."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bson import ObjectId
from click.testing import CliRunner, Result

from support.erasing import Erasing, erasing_bench, person
from support.ledger import Bench
from worker.cli.erasing import erase
from worker.erasure import receipt as receipts
from worker.errors import StoreUnavailable
from worker.jobs.job import Job
from worker.jobs.store import Jobs
from worker.settings import Settings

Run = Callable[..., Result]


@pytest.fixture
def bench(settings: Settings, tmp_path: Path) -> Iterator[Bench]:
    with erasing_bench(settings, tmp_path) as made:
        yield made


@pytest.fixture
def run(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Run:
    for name in ("mongo_url", "redis_url", "mongo_database", "erasure_signing_key"):
        monkeypatch.setenv(f"SNAPSHOTS_{name.upper()}", str(getattr(bench.settings, name)))
    monkeypatch.setenv("SNAPSHOTS_ERASURE_KEY", "k" * 32)
    return lambda *arguments: CliRunner().invoke(erase, [str(each) for each in arguments])


def test_public_key_that_is_printed_checks_receipts(run: Run, bench: Bench, tmp_path: Path) -> None:
    receipt = (Erasing(bench).run(person(bench)).result or {})["receipt"]
    key, file = tmp_path / "printed.pem", tmp_path / "receipt.json"
    key.write_text(run("public-key").stdout)
    file.write_bytes(receipts.encode(receipt))
    assert "is genuine" in run("verify", file, "--key", key).stdout


def test_mentions_are_redacted_if_that_is_asked_for(run: Run, bench: Bench) -> None:
    which = ("--organization", bench.organization, "--contact", person(bench), "--yes", "--timeout", "0", "--json")
    begun = json.loads(run(*which, "--redact-mentions").stdout)
    job = bench.database.snapshotjobs.find_one()
    assert (str(job["_id"]), job["spec"]["redactMentions"]) == (begun["id"], True)
    assert Erasing(bench).finish(Erasing(bench).jobs.get(job["_id"])).status == "completed"
    assert "mentionsRedacted" in json.loads(run("show", begun["id"], "--json").stdout)["receipt"]


def test_command_waits_on_while_mongodb_cannot_be_reached(
    run: Run, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    get, faults = Jobs.get, [StoreUnavailable()]

    def get_later(jobs: Jobs, key: ObjectId) -> Job:
        if faults:
            raise faults.pop()
        return get(jobs, key)

    monkeypatch.setattr(Jobs, "get", get_later)
    which = ("--organization", bench.organization, "--contact", person(bench), "--yes", "--timeout", "1", "--json")
    assert (json.loads(run(*which).stdout)["status"], faults) == ("accepted", [])
