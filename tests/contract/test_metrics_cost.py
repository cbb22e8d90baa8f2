"""A scrape costs little, however many requests there are, and does not wait for a slow server."""

import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pymongo
import pytest

from support.faults import failing
from support.ledger import Bench
from support.scraping import Scraper, scraper_on
from support.waiting import allowed, eventually
from worker.metrics.outcomes import OutcomeFold
from worker.runs.run import Run

pytestmark = pytest.mark.usefixtures("indexed")


@pytest.fixture
def scrape(bench: Bench) -> Iterator[Scraper]:
    with scraper_on(bench) as scraper:
        yield scraper


def fill(bench: Bench, count: int, since: datetime, every: timedelta) -> None:
    bench.database.snapshotrequests.insert_many(
        {
            "organizationId": bench.organization,
            "requestId": f"old-{number}",
            "trigger": "backfill",
            "status": "completed",
            "round": 0,
            "acceptedAt": since + number * every,
            "finishedAt": since + number * every,
        }
        for number in range(count)
    )


def test_large_ledger_is_added_in_slices_and_shown_once_it_is_complete(bench: Bench) -> None:
    fill(bench, 1000, bench.ago(days=3), timedelta(seconds=200))
    fold = OutcomeFold(bench.connections, slice_size=100)
    assert fold(0.000001) is None
    outcomes = fold(10)
    assert outcomes is not None
    assert sum(sums.requests for sums in outcomes.finished.values()) == 1000
    again = fold(10)
    assert again is not None
    assert again.finished == outcomes.finished


def test_scrape_reads_only_what_has_finished_since_the_last(bench: Bench, scrape: Scraper) -> None:
    fill(bench, 2000, bench.ago(days=3), timedelta(seconds=1))
    scrape()
    bench.database.command("profile", 2)
    scrape()
    bench.database.command("profile", 0)
    profiled = list(bench.database["system.profile"].find({"command.aggregate": "snapshotrequests"}))
    reads = [each for each in profiled if "finishedAt" in each["command"]["pipeline"][0].get("$match", {})]
    assert reads
    for read in reads:
        assert read["docsExamined"] == 0
        assert read["keysExamined"] < 20


def test_slow_mongodb_delays_no_scrape_and_the_last_figures_are_shown(
    bench: Bench, scrape: Scraper, mongo_client: pymongo.MongoClient[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = allowed(4)  # before this test's own load
    Run(bench.service)(bench.chunk(2))
    eventually(lambda: scrape()["snapshots_identity_broken"] == 0)
    monkeypatch.setattr("worker.metrics.system._SCRAPE_SECONDS", 2.0)
    with failing(mongo_client, ["aggregate", "find"], blockConnection=True, blockTimeMS=5000):
        began = time.monotonic()
        found = scrape()
        took = time.monotonic() - began
    assert took < limit
    assert found['snapshots_completed_total{trigger="client"}'] == 2
    assert (found['snapshots_server_up{server="mongo"}'], found['snapshots_server_up{server="redis"}']) == (0, 1)
    eventually(lambda: scrape()['snapshots_server_up{server="mongo"}'] == 1, 30)
