"""`python -m benchmarks.fair_shares`: how long one organization waits while another floods an entry point.

A floods each entry point alone, and again while B sends one request a second through the same one (over HTTP during a
backfill). Measured: the seconds from B's request to its outcome, and the rate of A's outcomes in both runs, from A's
first acceptance to its last outcome.

    python -m benchmarks.fair_shares --requests 50000 --only stream --only closings
"""

import asyncio
import json
import multiprocessing
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime
from http import HTTPStatus
from secrets import token_hex
from statistics import quantiles
from typing import Any, Self
from urllib.parse import urlsplit

import click
import httpx
import jwt
import pymongo
import redis
from bson import ObjectId
from celery import Celery

from benchmarks.dataset import ORGANIZATIONS, contact_id, conversation_id, seed_numbers
from benchmarks.machine import about
from worker.local.data_folder import data_folder
from worker.local.embedded import Options, servers
from worker.local.stack import Stack, stack
from worker.settings import PREFIX, Settings, load

PATHS = ("stream", "http", "celery", "closings", "backfill")
_POSTED = ("http", "backfill")
"""The entry points during whose floods B sends POSTs."""
DATABASE = "benchmarks"
A, B = ORGANIZATIONS[:2]
_SECRET = f"{PREFIX}JWT_SECRET"
_CONNECTIONS = 32
_PIPELINE = 1000
_PATIENCE_SECONDS = 1800
_POLL_SECONDS = 1.0
"""Interval of counting outcomes, which costs MongoDB 15 ms each at 40,000. The rates come from the ledger's times."""


def _contacts(organization: ObjectId, count: int) -> list[int]:
    """Return the numbers of an organization's first contacts, as `organization_of` distributes them."""
    first = ORGANIZATIONS.index(organization)
    return list(range(first, first + count * len(ORGANIZATIONS), len(ORGANIZATIONS)))


class Sender:
    """Sends requests of one organization through each entry point."""

    def __init__(self, settings: Settings, url: str, organization: ObjectId, contacts: int) -> None:
        self._settings, self._url, self._organization = settings, url, organization
        self._numbers = _contacts(organization, contacts)
        claims = {"organizationId": str(organization), "id": str(ObjectId()), "accessRole": "ADMIN"}
        self._token = jwt.encode({**claims, "exp": int(time.time()) + 86_400}, os.environ[_SECRET], "HS256")

    def send(self, path: str, first: int, count: int) -> None:
        """Send `count` requests through the entry point; `first` tells them from those that were sent before."""
        getattr(self, f"_{path}")(first, count)

    def post(self, number: int) -> None:
        """POST one request and wait for its outcome. Raises HTTPStatusError."""
        head = {"Authorization": f"Bearer {self._token}", "Idempotency-Key": self._key("post", number)}
        body = {"contactId": self._contact(number)}
        httpx.post(f"{self._url}/api/training/snapshots", json=body, headers=head, timeout=60).raise_for_status()

    def _key(self, path: str, number: int) -> str:
        return f"{path}-{number}"

    def _contact(self, number: int) -> str:
        return str(contact_id(self._numbers[number % len(self._numbers)]))

    def _stream(self, first: int, count: int) -> None:
        with closing(redis.Redis.from_url(self._settings.redis_url)) as client:
            for start in range(first, first + count, _PIPELINE):
                with client.pipeline(transaction=False) as pipeline:
                    for number in range(start, min(start + _PIPELINE, first + count)):
                        data = {"organizationId": str(self._organization), "contactId": self._contact(number)}
                        entry: Any = {
                            "type": "snapshot.requested",
                            "data": json.dumps({**data, "userId": str(B), "requestId": self._key("stream", number)}),
                        }
                        pipeline.xadd(self._settings.requests_stream, entry)
                    pipeline.execute()

    def _celery(self, first: int, count: int) -> None:
        with Celery(broker=self._settings.redis_url, set_as_current=False) as app:
            for number in range(first, first + count):
                data = {"organizationId": str(self._organization), "contactId": self._contact(number)}
                request = {**data, "userId": str(B), "requestId": self._key("celery", number)}
                app.send_task("snapshots.request", args=[request], queue="snapshots", argsrepr="(...)")

    def _http(self, first: int, count: int) -> None:
        asyncio.run(self._post_all(iter(range(first, first + count))))

    async def _post_all(self, numbers: Iterator[int]) -> None:
        parts = urlsplit(self._url)

        async def post() -> None:
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            for number in numbers:
                body = json.dumps({"contactId": self._contact(number)}).encode()
                head = (
                    f"POST /api/training/snapshots HTTP/1.1\r\nHost: {parts.netloc}\r\n"
                    f"Authorization: Bearer {self._token}\r\nContent-Type: application/json\r\n"
                    "Prefer: respond-async\r\n"
                    f"Idempotency-Key: {self._key('http', number)}\r\nContent-Length: {len(body)}\r\n\r\n"
                )
                writer.write(head.encode() + body)
                answer = (await reader.readuntil(b"\r\n\r\n")).lower()
                if not answer.startswith(b"http/1.1 202"):
                    raise RuntimeError(answer.decode())
                await reader.readexactly(int(answer.split(b"content-length:")[1].split(b"\r\n")[0]))
            writer.close()

        await asyncio.gather(*(post() for _ in range(_CONNECTIONS)))

    def _closings(self, first: int, count: int) -> None:
        ids = self._conversations(first, count)
        with pymongo.MongoClient[Any](self._settings.mongo_url) as client:
            change = {"$set": {"isResolved": True, "resolvedAt": datetime.now(UTC)}}
            client[DATABASE].conversations.update_many({"_id": {"$in": ids}}, change)

    def _backfill(self, first: int, count: int) -> None:
        """Request conversations that no backfill had before: they get a channel of their own."""
        channel = f"backfill{first}"
        with pymongo.MongoClient[Any](self._settings.mongo_url) as client:
            change = {"$set": {"channelType": channel}}
            client[DATABASE].conversations.update_many({"_id": {"$in": self._conversations(first, count)}}, change)
        url, head = f"{self._url}/api/training/backfills", {"Authorization": f"Bearer {self._token}"}
        while (
            answer := httpx.post(url, json={"channels": [channel]}, headers=head)
        ).status_code == HTTPStatus.CONFLICT:
            time.sleep(0.1)  # the one before has its outcomes, and notes them
        answer.raise_for_status()

    def _conversations(self, first: int, count: int) -> list[ObjectId]:
        ids = [conversation_id(number) for number in self._numbers[first : first + count]]
        if len(ids) < count:
            raise RuntimeError(f"The run needs {count} conversations, but only {len(ids)} are left.")
        return ids


def _flood(settings: Settings, url: str, contacts: int, path: str, first: int, count: int) -> None:
    Sender(settings, url, A, contacts).send(path, first, count)


class _Flood:
    """A process that floods."""

    def __init__(self, *order: Any) -> None:
        self._process = multiprocessing.get_context("spawn").Process(target=_flood, args=order)

    def __enter__(self) -> Self:
        self._process.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()

    def check(self) -> None:
        """Raise SystemExit if it has failed."""
        if self._process.exitcode:
            raise SystemExit(f"The flood ended with {self._process.exitcode}.")


def _wait(ledger: Any, wanted: Mapping[str, Any], count: int, flood: _Flood) -> float:
    """Wait for the outcomes of so many requests; return when the last one had its own, in seconds of the epoch."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while ledger.count_documents(wanted) < count:
        flood.check()
        if time.monotonic() > deadline:
            raise SystemExit(f"Not all of {count} requests were completed.")
        time.sleep(_POLL_SECONDS)
    moment: float = ledger.find_one(wanted, sort=[("finishedAt", -1)])["finishedAt"].timestamp()
    return moment


def _next_second() -> ObjectId:
    """Wait for the next second, and return an id below all that are made from then on."""
    time.sleep(1 - time.time() % 1)
    return ObjectId.from_datetime(datetime.now(UTC))


class Run:
    """The runs on one stack."""

    def __init__(self, running: Stack, database: Any, contacts: int, every: float) -> None:
        self._running, self._database, self._contacts, self._every = running, database, contacts, every
        self._b = Sender(running.settings, running.api.url, B, contacts)
        self._sent = dict.fromkeys(PATHS, 0)
        self._of_b = 0

    def __call__(self, path: str, count: int, beside: bool) -> Mapping[str, Any]:
        """Flood; return A's rate, and the seconds of B's requests if it sends any."""
        ledger, since = self._database.snapshotrequests, _next_second()
        first, self._sent[path] = self._sent[path], self._sent[path] + count
        order = (self._running.settings, self._running.api.url, self._contacts, path, first, count)
        sent: dict[int, float] = {}
        of_a, of_b = ({"organizationId": each, "status": "completed", "_id": {"$gt": since}} for each in (A, B))
        with _Flood(*order) as flood:
            looked = time.monotonic()
            while beside:
                if time.monotonic() > looked + _POLL_SECONDS:
                    flood.check()
                    if ledger.count_documents(of_a) == count:
                        break
                    looked = time.monotonic()
                begun, number = time.time(), self._of_b
                self._of_b += 1
                if path in _POSTED:
                    self._b.post(number)
                    sent[number] = time.time() - begun
                else:
                    self._b.send(path, number, 1)
                    sent[number] = begun
                time.sleep(max(0.0, begun + self._every - time.time()))
            last = _wait(ledger, of_a, count, flood)
            if beside:
                _wait(ledger, of_b, len(sent), flood)
        if path not in _POSTED and beside:
            ends = ledger.find({"organizationId": B, "_id": {"$gt": since}}).sort("_id", 1)
            waits = [end["finishedAt"].timestamp() - at for end, at in zip(ends, sent.values(), strict=True)]
        else:
            waits = list(sent.values())
        began = ledger.find_one(of_a, sort=[("acceptedAt", 1)])["acceptedAt"].timestamp()
        return {"rate": round(count / (last - began)), "waits": waits}


def _summary(runs: list[Mapping[str, Any]]) -> dict[str, Any]:
    """Summarize the runs of an entry point: A alone, A beside B, and in the next round the other way round."""
    waits = [each for run in runs for each in run["waits"]]
    cuts = quantiles(waits, n=100, method="inclusive")
    alone, beside = ([run["rate"] for run in runs if bool(run["waits"]) is with_b] for with_b in (False, True))
    return {
        "B": {
            "requests": len(waits),
            "p50": round(cuts[49], 2),
            "p99": round(cuts[98], 2),
            "max": round(max(waits), 2),
        },
        "A": {"alone": alone, "beside": beside, "ratio": round(sum(beside) / sum(alone), 2)},
    }


@click.command()
@click.option("--requests", "count", type=click.IntRange(100), default=50_000, show_default=True)
@click.option(
    "--messages", type=click.IntRange(1), default=10, show_default=True, help="Messages in each conversation."
)
@click.option("--every", type=float, default=1.0, show_default=True, help="Seconds from one request of B to the next.")
@click.option("--rounds", type=click.IntRange(1), default=1, show_default=True)
@click.option("--only", type=click.Choice(PATHS), multiple=True, default=PATHS, help="An entry point; may be repeated.")
def main(count: int, messages: int, every: float, rounds: int, only: tuple[str, ...]) -> None:
    """Measure fair shares, and print the result as JSON."""
    os.environ |= {f"{PREFIX}SETTLE_SECONDS": "0", f"{PREFIX}API_RATE_LIMIT": "0", _SECRET: token_hex(32)}
    contacts = 2 * rounds * count  # a conversation is closed once
    with data_folder() as folder, servers(load(), folder.path / "servers", Options(cache_gb=2.0)) as up:
        own = load(mongo_url=up.mongo_url, redis_url=up.redis_url, mongo_database=DATABASE)
        with (
            pymongo.MongoClient[Any](up.mongo_url, tz_aware=True) as client,
            stack(own, folder.path / "stack") as running,
        ):
            for organization, number in ((A, contacts), (B, 5000)):
                seed_numbers(client[DATABASE], _contacts(organization, number), messages)
            run = Run(running, client[DATABASE], contacts, every)
            for path in only:
                # The first run is the fastest, whichever it is, so neither kind always comes first.
                order = [number % 2 == 1 for number in range(rounds)]
                runs = [run(path, count, beside=beside) for first in order for beside in (first, not first)]
                click.echo(json.dumps({path: _summary(runs)}))
    click.echo(json.dumps({"machine": about(), "requests": count, "messages": messages}))


if __name__ == "__main__":
    main()
