"""POSTs against the whole stack on this machine: `python tests/http_load.py --rate 500`, or `--clients 50`.

With `--rate` the loop is open: a request is due at its time whether or not earlier ones are answered, and its latency
counts from then. With `--clients` it is closed: each client sends its next request after an answer, so the result is
the highest rate. `--stop-redis` stops Redis for a third of the run and waits for every outcome at the end.
Prints one line of JSON; the exit code is 1 if a request was not answered with 200, 201 or 202.
"""

import argparse
import asyncio
import json
import os
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import psutil
import pymongo
from bson import ObjectId

from worker.local.processes import Child
from worker.local.stack import Stack, stack
from worker.settings import load

CONTACTS = 500


@dataclass
class Answers:
    """The answers of a run."""

    latencies: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)

    def percentile(self, share: float) -> float:
        """The percentile of the latencies, in ms."""
        ordered = sorted(self.latencies)
        return round(1000 * ordered[min(int(share * len(ordered)), len(ordered) - 1)], 1) if ordered else 0.0


class Client:
    """Keep-alive connections, as many as there are requests at once."""

    def __init__(self, url: str, token: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname, parts.port
        self._head = (
            f"POST /api/training/snapshots HTTP/1.1\r\nHost: {parts.netloc}\r\n"
            f"Authorization: Bearer {token}\r\nContent-Type: application/json\r\n"
        )
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def post(self, body: bytes, key: str) -> int:
        reader, writer = self._free.pop() if self._free else await asyncio.open_connection(self._host, self._port)
        writer.write(f"{self._head}Idempotency-Key: {key}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        await reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r\n")[0]))
        self._free.append((reader, writer))
        return int(head.split(b" ", 2)[1])


def seed(running: Stack, messages: int) -> list[ObjectId]:
    """Insert contacts into the organization of the stack's token."""
    organization = running.api.organization
    contacts = [ObjectId() for _ in range(CONTACTS)]
    start = datetime(2026, 5, 13, tzinfo=UTC)
    with pymongo.MongoClient[dict[str, object]](running.settings.mongo_url) as client:
        database = client[running.settings.mongo_database]
        database.contacts.insert_many(
            {"_id": each, "organizationId": organization, "firstName": "Priya", "email": "priya@example.com"}
            for each in contacts
        )
        database.messages.insert_many(
            {
                "organizationId": organization,
                "contactId": each,
                "content": f"Where is order {number}, please? I have waited for a week.",
                "direction": "inbound" if number % 2 else "outbound",
                "timestamp": start + timedelta(seconds=number),
            }
            for each in contacts
            for number in range(messages)
        )
    return contacts


async def drive(
    running: Stack,
    contacts: list[ObjectId],
    rate: float,
    seconds: float,
    name: str,
    stop_redis: bool = False,
    clients: int = 0,
) -> Answers:
    assert running.api.token
    client, answers = Client(running.api.url, running.api.token), Answers()
    notes = {
        "notes": "Excellent handling of a billing question",
        "tags": ["billing", "resolved"],
        "quality": "excellent",
    }

    async def one(number: int, due: float) -> None:
        body = json.dumps({"contactId": str(contacts[number % CONTACTS]), **notes}).encode()
        try:
            answers.statuses[await client.post(body, f"{name}-{number}")] += 1
        except (OSError, asyncio.IncompleteReadError) as error:
            answers.errors[type(error).__name__] += 1
        answers.latencies.append(time.perf_counter() - due)

    async def back_to_back(first: int, until: float) -> None:
        number = first
        while (now := time.perf_counter()) < until:
            await one(number, now)
            number += clients

    outage = asyncio.create_task(_outage(running, seconds)) if stop_redis else None
    start = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(clients):
            group.create_task(back_to_back(number, start + seconds))
        if clients:
            return answers
        for number in range(int(rate * seconds)):
            due = start + number / rate
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            group.create_task(one(number, due))
    if outage:
        await outage
    return answers


async def _outage(running: Stack, seconds: float) -> None:
    valkey: Child = next(each for each in running.supervisor.children if each.name == "valkey")
    await asyncio.sleep(seconds / 3)
    await asyncio.to_thread(valkey.stop)
    print("redis stopped", file=sys.stderr)
    await asyncio.sleep(seconds / 3)
    await asyncio.to_thread(valkey.start)
    print("redis started", file=sys.stderr)


def settled(running: Stack, patience: float) -> tuple[dict[str, int], float]:
    """Wait until no request is open; return the number of requests by status, and the seconds it took."""
    started = time.monotonic()
    with pymongo.MongoClient[dict[str, object]](running.settings.mongo_url) as client:
        ledger = client[running.settings.mongo_database].snapshotrequests
        while ledger.count_documents({"status": "accepted"}) and time.monotonic() < started + patience:
            time.sleep(0.5)
        counts = {str(each["_id"]): int(str(each["n"])) for each in ledger.aggregate(_BY_STATUS)}
        counts["snapshots"] = client[running.settings.mongo_database].trainingsnapshots.count_documents({})
    return counts, round(time.monotonic() - started, 1)


def cpu_seconds(running: Stack) -> dict[str, float]:
    """The CPU time of each process with its children, and of this process."""
    used: dict[str, float] = {}
    for name, pid in [("load", os.getpid()), *((each.name, each.pid) for each in running.supervisor.children)]:
        process = psutil.Process(pid)
        family = [process] if name == "load" else [process, *process.children(recursive=True)]
        used[name] = sum(sum(each.cpu_times()[:2]) for each in family)
    return used


_BY_STATUS = [{"$group": {"_id": "$status", "n": {"$sum": 1}}}]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=500)
    parser.add_argument("--clients", type=int, default=0, help="send back to back over so many connections")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--messages", type=int, default=20, help="of each contact")
    parser.add_argument("--stop-redis", action="store_true")
    options = parser.parse_args()
    os.environ["SNAPSHOTS_API_RATE_LIMIT"] = os.environ.get("SNAPSHOTS_API_RATE_LIMIT", "10000000")
    with stack(load()) as running:
        contacts = seed(running, options.messages)
        asyncio.run(drive(running, contacts, 20, 3, "warm"))
        before, idle, began = cpu_seconds(running), psutil.cpu_times().idle, time.monotonic()
        posts = drive(
            running, contacts, options.rate, options.seconds, "load", options.stop_redis, clients=options.clients
        )
        answers = asyncio.run(posts)
        took = time.monotonic() - began
        used = {key: round(value - before.get(key, 0), 1) for key, value in cpu_seconds(running).items()}
        idle_cores = (psutil.cpu_times().idle - idle) / (time.monotonic() - began)
        counts, settling = settled(running, 120)
    result = {
        "requests": len(answers.latencies),
        "perSecond": round(len(answers.latencies) / took, 1),
        "statuses": dict(answers.statuses),
        "errors": dict(answers.errors),
        "ms": {name: answers.percentile(share) for name, share in _PERCENTILES.items()},
        "cpuSeconds": used,
        "idleCores": round(idle_cores, 2),
        "ledger": counts,
        "settledAfterSeconds": settling,
    }
    print(json.dumps(result))
    sys.exit(0 if not answers.errors and set(answers.statuses) <= {200, 201, 202} else 1)


_PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999, "max": 1.0}

if __name__ == "__main__":
    main()
