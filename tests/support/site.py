"""A system for an operator: `snapshots up` with real conversations, some requests that fail, and Flower."""

import gzip
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import pymongo
import redis
from bson import ObjectId
from pymongo.database import Database

from support.commands import CHECKOUT, COMMAND, run
from support.waiting import eventually

DATA = CHECKOUT.parent / "shared" / "data"
SAMPLES = CHECKOUT / "worker" / "local" / "samples" / "conversations.jsonl"
_EACH = 40
"""Conversations taken from each file."""
EXPORT = ("--format", "nova", "--split", "80/10/10", "--dedupe")
LATE = 3
"""Requests whose contact does not exist yet."""


@dataclass
class Site:
    """`personal`: texts that must not be shown anywhere. `late`: failed requests, whose contact `arrive` inserts.

    `unsent`: as many as many that name a message which `send` inserts. They do not run together.
    """

    folder: Path
    api: str
    flower: str
    login: tuple[str, str]
    """The login of Flower."""
    token: str
    organization: ObjectId
    database: Database[dict[str, Any]]
    redis: "redis.Redis"
    environment: dict[str, str]
    personal: set[str] = field(default_factory=set)
    export: str = ""
    late: list[ObjectId] = field(default_factory=list)
    unsent: list[ObjectId] = field(default_factory=list)
    contact: ObjectId = field(default_factory=ObjectId)
    sender: ObjectId = field(default_factory=ObjectId)
    message: ObjectId = field(default_factory=ObjectId)

    def send(self) -> None:
        """Insert the missing message."""
        ids = {"_id": self.message, "organizationId": self.organization, "contactId": self.sender}
        self.personal.add("I was in the post for a while")
        self.database.messages.insert_one(
            {**ids, "content": "I was in the post for a while", "direction": "inbound", "createdAt": datetime.now(UTC)}
        )

    def arrive(self) -> None:
        """Insert the missing contact with two messages."""
        ids = {"organizationId": self.organization, "contactId": self.contact}
        people = {"firstName": "Wilhelmina", "lastName": "Lateborough", "email": "w.lateborough@example.com"}
        self.database.contacts.insert_one({"_id": self.contact, "organizationId": self.organization, **people})
        now = self.database.client.admin.command("hello")["localTime"]
        texts = ("I come late, and all the same", "so do I, said the platform")
        self.database.messages.insert_many(
            {**ids, "content": each, "sender": "contact", "timestamp": now} for each in texts
        )
        self.personal |= {"Wilhelmina", "Lateborough", *texts}

    def states(self, keys: list[ObjectId]) -> list[str]:
        """Return the states of requests."""
        return [each["status"] for each in self.database.snapshotrequests.find({"_id": {"$in": keys}})]

    def logs(self) -> str:
        files = (self.folder / "data" / "logs").glob("*.log*")
        return "".join(each.read_text(errors="replace") for each in files)


def site_on(folder: Path, stack: ExitStack) -> Site:
    """Start everything, to be stopped by `stack`, and wait until the late requests have failed."""
    own = {"SNAPSHOTS_PARENT_WAIT": "3s", "SNAPSHOTS_RUN_DEADLINE": "2s"}
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("SNAPSHOTS_", "FLOWER_"))}
    said = stack.enter_context(_up(folder / "data", clean | own))
    servers = {"SNAPSHOTS_MONGO_URL": said["mongo"], "SNAPSHOTS_REDIS_URL": said["redis"]}
    servers["SNAPSHOTS_EXPORTS_URL"] = str(folder / "data" / "exports")
    mongo = stack.enter_context(pymongo.MongoClient[Any](said["mongo"], tz_aware=True))
    broker = stack.enter_context(redis.Redis.from_url(said["redis"]))
    site = Site(
        folder,
        said["api"],
        said["flower"],
        tuple(said["flowerLogin"].split(":")),
        said["token"],
        ObjectId(said["organization"]),
        mongo[said["database"]],
        broker,
        clean | own | servers,
    )
    _fill(site)
    return site


def _fill(site: Site) -> None:
    """Add late requests and a faulty entry to the intake stream, and request a snapshot of every conversation."""
    body = {"organizationId": str(site.organization), "notes": "ring Wilhelmina back"}
    site.personal.add(body["notes"])
    site.database.contacts.insert_one({"_id": site.sender, "organizationId": site.organization})
    late: list[dict[str, Any]] = [{"contactId": str(site.contact)}] * LATE
    late += [{"contactId": str(site.sender), "messageIds": [str(site.message)]}] * LATE
    for number, each in enumerate(late):
        data = json.dumps({**body, **each, "requestId": f"late-{number}"})
        site.redis.xadd("snapshots:requests", {"type": "snapshot.requested", "data": data})
    refused = {"organizationId": str(site.organization), "notes": body["notes"]}
    site.redis.xadd("snapshots:requests", {"type": "snapshot.requested", "data": json.dumps(refused)})
    file = site.folder / "conversations.jsonl"
    file.write_text("".join(_lines()))
    site.personal |= set(_personal(file))
    imported = run(site.environment, "import", file, "--organization", site.organization, "--json")
    assert imported.code == 0, imported.stderr
    asked = run(site.environment, "request", "--organization", site.organization, "--all", "--json")
    assert asked.code == 0, asked.stderr

    exported = run(site.environment, "export", "--organization", site.organization, *EXPORT, "--json")
    assert exported.code == 0, exported.stderr
    site.export = exported.json["_id"]

    def failed() -> bool:
        site.late, site.unsent = (
            [each["_id"] for each in site.database.snapshotrequests.find({"contactId": contact})]
            for contact in (site.contact, site.sender)
        )
        return site.states([*site.late, *site.unsent]) == ["failed"] * 2 * LATE

    eventually(failed, 60, 0.1)


def _lines() -> Iterator[str]:
    """Return the lines of the samples, and of the files of real conversations that exist."""
    yield from SAMPLES.read_text().splitlines(keepends=True)
    for name in ("star", "crystalclear", "abcd"):
        if (path := DATA / f"{name}.jsonl.gz").exists():
            with gzip.open(path, "rt", encoding="utf-8") as file:
                yield from islice(file, _EACH)


def _personal(file: Path) -> Iterator[str]:
    """Return e-mail addresses, phone numbers, full names, and message texts long enough to be recognizable."""
    for line in file.read_text().splitlines():
        read = json.loads(line)
        for person in (read.get("contact") or {}, read.get("agent") or {}):
            yield from (person[name] for name in ("email", "phoneNumber") if person.get(name))
            name = f"{person.get('firstName') or ''} {person.get('lastName') or ''}".strip()
            if " " in name:
                yield name
        for message in read["messages"]:
            first = message["content"].split("\n")[0].strip()
            if len(first) >= 12:
                yield first


class _up:  # noqa: N801 - a context manager, used as a function
    """Run `snapshots up --json`; the value is what it printed."""

    def __init__(self, data: Path, env: dict[str, str]) -> None:
        argv = [*COMMAND, "up", "--json", "--data", str(data)]
        self._process = subprocess.Popen(argv, stdout=subprocess.PIPE, env=env, cwd=CHECKOUT, text=True)

    def __enter__(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "snapshots up ended before it was ready"
        said: dict[str, Any] = json.loads(line)
        return said

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGINT)
        self._process.communicate(timeout=60)
