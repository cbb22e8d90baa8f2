"""A large ledger: frequent operations read an index, and no more of it than they need.

Checked with MongoDB's profiler, that is, by the executed plans (https://www.mongodb.com/docs/manual/reference/
database-profiler/). `tests/chaos/growth.py` measures the same on a million of each.
"""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from bson import ObjectId

from support.ledger import Bench, bench_on
from worker.settings import Settings
from worker.stores import indexes
from worker.stores.counts import CHECK, totals
from worker.stores.queries import RequestFilter, count_redrivable, list_requests, redrivable
from worker.stores.stats import identities, oldest_request
from worker.sweep.sweep import Sweep

FINISHED, OPEN = 1500, 5
LEDGER, SNAPSHOTS = "snapshotrequests", "trainingsnapshots"


@pytest.fixture
def bench(settings: Settings) -> Iterator[Bench]:
    with bench_on(settings) as made:
        indexes.ensure(made.connections)
        _grow(made)
        Sweep(made.service)()  # the first sweep takes Redis for new, replays everything, and counts everything
        made.database.snapshotcounts.update_one({"_id": CHECK}, {"$set": {"restUntil": made.ago(hours=-1)}})
        yield made


def _grow(bench: Bench) -> None:
    now = bench.service.clock.now()
    finished: list[dict[str, Any]] = []
    for number in range(FINISHED):
        failed = number % 10 == 0
        at = now - timedelta(hours=1, seconds=number)
        finished.append(
            {
                "_id": ObjectId(),
                "organizationId": bench.organization,
                "contactId": ObjectId(),
                "requestId": f"r{number}",
                "bodyHash": "",
                "trigger": "api",
                "status": "failed" if failed else "completed",
                "round": 0,
                "queue": "snapshots",
                "enqueuedAt": at,
                "acceptedAt": at,
                "finishedAt": at,
                **({"error": {"code": "empty_conversation"}} if failed else {"messageCount": 2}),
            }
        )
    for each in finished:
        if each["status"] == "completed":
            each["snapshotId"] = each["_id"]
    bench.database[LEDGER].insert_many(finished)
    copies = [
        {"_id": each["_id"], "organizationId": bench.organization, "createdAt": now, "isArchived": False}
        for each in finished
        if each["status"] == "completed"
    ]
    bench.database[SNAPSHOTS].insert_many(copies)
    bench.chunk(OPEN)


def accept(bench: Bench) -> None:
    bench.accepted(bench.asked(ObjectId(), "r1-new"))


def accept_again(bench: Bench) -> None:
    asked = bench.asked(ObjectId(), "r7")
    bench.service.accept([asked])


def sweep(bench: Bench) -> None:
    Sweep(bench.service)()


def status(bench: Bench) -> None:
    identities(bench.connections, bench.organization)


def counts(bench: Bench) -> None:
    assert totals(bench.connections).verified_since


def oldest(bench: Bench) -> None:
    oldest_request(bench.connections)


def first_page(bench: Bench) -> None:
    list_requests(bench.connections, RequestFilter(bench.organization), 20)


def failures(bench: Bench) -> None:
    list_requests(bench.connections, RequestFilter(bench.organization, "failed"), 20)


def redrive(bench: Bench) -> None:
    which = RequestFilter(bench.organization, code="empty_conversation")
    count_redrivable(bench.connections, which)
    bench.service.redrive(next(iter(redrivable(bench.connections, which, 10))))


@pytest.mark.parametrize(
    ("step", "most"),
    [
        (accept, 10),
        (accept_again, 10),
        (sweep, 100),
        (status, 2 * FINISHED + 100),  # counts read the index alone
        (counts, 100),
        (oldest, 100),
        (first_page, 100),
        (failures, 100),
        (redrive, FINISHED // 10 + 100),
    ],
)
def test_frequent_operation_reads_an_index_and_no_more_than_it_needs(
    bench: Bench, step: Callable[[Bench], None], most: int
) -> None:
    database = bench.database
    database.command("profile", 2)
    step(bench)
    database.command("profile", 0)
    ours = {"ns": {"$in": [f"{database.name}.{LEDGER}", f"{database.name}.{SNAPSHOTS}"]}}
    run = list(database["system.profile"].find(ours))
    assert run
    for each in run:
        assert "COLLSCAN" not in each.get("planSummary", ""), each["command"]
        assert each.get("keysExamined", 0) <= most, each["command"]
        assert each.get("docsExamined", 0) <= min(most, FINISHED), each["command"]
