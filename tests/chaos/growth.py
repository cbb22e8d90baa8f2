"""Measures what runs often, on a ledger of a million requests and a million snapshots.

    .venv/bin/python tests/chaos/growth.py [--size 1000000] [--seed 1]

Prints milliseconds, and exits with 1 if the sweep takes 200 ms or more.
"""

import argparse
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from bson import ObjectId

BATCH = 10_000
ORGANIZATIONS = 50
MOST_MS = 200.0


def main() -> int:
    sys.path[0] = str(Path(__file__).parent.parent)
    from support.ledger import bench_on
    from worker.local.embedded import Options, embedded
    from worker.settings import load

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=1_000_000, help="number of requests (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with embedded(options=Options(cache_gb=1.0)) as up:
        own = load(mongo_url=up.mongo_url, redis_url=up.redis_url, mongo_database="growth")
        with bench_on(own) as bench:
            _fill(bench, given.size, random.Random(given.seed))
            return _measure(bench, given.size)


def _fill(bench: Any, size: int, dice: random.Random) -> None:
    from worker.stores import indexes

    indexes.ensure(bench.connections)
    organizations = [bench.organization, *(ObjectId() for _ in range(ORGANIZATIONS - 1))]
    now = bench.service.clock.now()
    began = time.monotonic()
    for first in range(0, size, BATCH):
        entries = list(_entries(organizations, now, range(first, min(size, first + BATCH)), dice))
        bench.database.snapshotrequests.insert_many(entries, ordered=False)
        bench.database.trainingsnapshots.insert_many([_copy(each) for each in entries], ordered=False)
    print(f"{size} requests and snapshots stored in {time.monotonic() - began:.0f} s", flush=True)


def _entries(
    organizations: list[ObjectId], now: datetime, numbers: range, dice: random.Random
) -> Iterator[dict[str, Any]]:
    for number in numbers:
        at = now - timedelta(seconds=10 * 86_400 + dice.random() * 60 * 86_400)
        failed = number % 20 == 0
        key = ObjectId()
        yield {
            "_id": key,
            "organizationId": organizations[number % ORGANIZATIONS],
            "contactId": ObjectId(),
            "requestId": f"grown-{number}",
            "bodyHash": f"{number:064d}",
            "tags": ["grown"],
            "trigger": "backfill",
            "status": "failed" if failed else "completed",
            "round": 0,
            "queue": "snapshots.bulk",
            "acceptedAt": at,
            "enqueuedAt": at,
            "finishedAt": at + timedelta(seconds=1),
            **(
                {"error": {"code": "empty_conversation", "message": "", "details": {}}}
                if failed
                else {"snapshotId": key, "messageCount": 1}
            ),
        }


def _copy(entry: dict[str, Any]) -> dict[str, Any]:
    return {
        "_id": entry["_id"],
        "organizationId": entry["organizationId"],
        "contactId": entry["contactId"],
        "requestId": entry["requestId"],
        "isArchived": False,
        "createdAt": entry["acceptedAt"],
        "messageCount": 1,
        "messages": [{"id": str(entry["_id"]), "content": "hello", "sender": "user", "senderType": "HUMAN"}],
    }


def _measure(bench: Any, size: int) -> int:
    from worker.stores.queries import RequestFilter, list_requests, redrivable
    from worker.stores.stats import identities, oldest_request
    from worker.sweep.sweep import Sweep

    connections, mine = bench.connections, bench.organization
    contact = bench.contact()

    def sweep() -> None:
        Sweep(bench.service)()

    sweep()  # the first one meets a new Redis
    steps: dict[str, Callable[[], Any]] = {
        "sweep": sweep,
        "accept one": lambda: bench.accepted(bench.asked(contact)),
        "accept 200": lambda: bench.accepted(*(bench.asked(contact) for _ in range(200))),
        "repeat a known request id": lambda: bench.service.accept([bench.asked(contact, f"grown-{size // 2}")]),
        "sweep beside requests in flight": sweep,
        "oldest request": lambda: oldest_request(connections),
        "list a page": lambda: list_requests(connections, RequestFilter(mine), 50),
        "list a page of failures by code": lambda: list_requests(
            connections, RequestFilter(mine, code="empty_conversation"), 50
        ),
        "find 200 to redrive": lambda: next(iter(redrivable(connections, RequestFilter(mine, "failed"), 200))),
        "status of one organization": lambda: identities(connections, mine),
        "status of all": lambda: identities(connections),
    }
    worst = 0.0
    for name, step in steps.items():
        times = [_time(step) for _ in range(3 if name == "status of all" else 20)]
        print(f"{name:<34} median {statistics.median(times):8.1f} ms   longest {max(times):8.1f} ms", flush=True)
        if name.startswith("sweep"):
            worst = max(worst, statistics.median(times))
    return 0 if worst < MOST_MS else 1


def _time(step: Callable[[], Any]) -> float:
    began = time.perf_counter()
    step()
    return (time.perf_counter() - began) * 1000


if __name__ == "__main__":
    sys.exit(main())
