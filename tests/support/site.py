"""What an operator has before them: `snapshots up` on real conversations, some of which fail, and Flower beside it."""

import gzip
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import pymongo
import redis
from bson import ObjectId
from pymongo.database import Database

from support.commands import CHECKOUT, COMMAND, run
from support.waiting import eventually
from worker.local.processes import Child

DATA = CHECKOUT.parent / "shared" / "data"
SAMPLES = CHECKOUT / "worker" / "local" / "samples" / "conversations.jsonl"
LOGIN = ("operator", "a password of the tests")
_EACH = 40
"""Conversations of each file."""
LATE = 3
"""Requests whose contact is not there."""


@dataclass
class Site:
    """`personal`: what must be shown nowhere. `late`: failed requests, whose contact `arrive` brings."""

    folder: Path
    api: str
    flower: str
    token: str
    organization: ObjectId
    database: Database[dict[str, Any]]
    redis: "redis.Redis"
    environment: dict[str, str]
    personal: set[str] = field(default_factory=set)
    late: list[ObjectId] = field(default_factory=list)
    contact: ObjectId = field(default_factory=ObjectId)

    def arrive(self) -> None:
        """The contact that was missing, with two messages."""
        ids = {"organizationId": self.organization, "contactId": self.contact}
        people = {"firstName": "Wilhelmina", "lastName": "Lateborough", "email": "w.lateborough@example.com"}
        self.database.contacts.insert_one({"_id": self.contact, "organizationId": self.organization, **people})
        now = self.database.client.admin.command("hello")["localTime"]
        texts = ("I come late, and all the same", "so do I, said the platform")
        self.database.messages.insert_many(
            {**ids, "content": each, "sender": "contact", "timestamp": now} for each in texts
        )
        self.personal |= {"Wilhelmina", "Lateborough", *texts}

    def states(self) -> list[str]:
        """Of the late ones."""
        return [each["status"] for each in self.database.snapshotrequests.find({"_id": {"$in": self.late}})]

    def logs(self) -> str:
        files = [*(self.folder / "data" / "logs").glob("*.log*"), self.folder / "flower.log"]
        return "".join(each.read_text(errors="replace") for each in files)


def site_on(folder: Path, stack: ExitStack) -> Site:
    """Starts everything, which ends with `stack`; gives it once the requests that can fail have failed."""
    port = _free_port()
    own = {
        "SNAPSHOTS_PARENT_WAIT": "3s",
        "SNAPSHOTS_RUN_DEADLINE": "2s",
        "SNAPSHOTS_FLOWER_URL": f"http://127.0.0.1:{port}",
    }
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SNAPSHOTS_")}
    said = stack.enter_context(_up(folder / "data", clean | own))
    servers = {"SNAPSHOTS_MONGO_URL": said["mongo"], "SNAPSHOTS_REDIS_URL": said["redis"]}
    mongo = stack.enter_context(pymongo.MongoClient[Any](said["mongo"], tz_aware=True))
    broker = stack.enter_context(redis.Redis.from_url(said["redis"]))
    flower = _flower(folder, port, own | servers)
    stack.callback(flower.kill)
    flower.start()
    site = Site(
        folder,
        said["api"],
        own["SNAPSHOTS_FLOWER_URL"],
        said["token"],
        ObjectId(said["organization"]),
        mongo[said["database"]],
        broker,
        clean | own | servers,
    )
    flower.wait_until_ready(30)
    _fill(site)
    return site


def _fill(site: Site) -> None:
    """Late requests on the intake stream, a refused one beside them, and a snapshot of every conversation."""
    body = {"organizationId": str(site.organization), "contactId": str(site.contact), "notes": "ring Wilhelmina back"}
    site.personal.add(body["notes"])
    for number in range(LATE):
        data = json.dumps({**body, "requestId": f"late-{number}"})
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

    def failed() -> bool:
        wanted = {"organizationId": site.organization, "contactId": site.contact}
        site.late = [each["_id"] for each in site.database.snapshotrequests.find(wanted)]
        return site.states() == ["failed"] * LATE

    eventually(failed, 60, 0.1)


def _lines() -> Iterator[str]:
    """Of the samples, and of each file of real conversations that is there."""
    yield from SAMPLES.read_text().splitlines(keepends=True)
    for name in ("star", "crystalclear", "abcd"):
        if (path := DATA / f"{name}.jsonl.gz").exists():
            with gzip.open(path, "rt", encoding="utf-8") as file:
                yield from islice(file, _EACH)


def _personal(file: Path) -> Iterator[str]:
    """E-mail addresses, phone numbers, whole names, and message texts long enough to be no one else's words."""
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
    """`snapshots up --json`: what it said."""

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


def _flower(folder: Path, port: int, env: dict[str, str]) -> Child:
    """As flowerconfig.py sets it, on a port of its own."""
    own = {
        "FLOWER_BASIC_AUTH": ":".join(LOGIN),
        "FLOWER_ADDRESS": "127.0.0.1",
        "FLOWER_PORT": str(port),
        "FLOWER_DB": str(folder / "flower"),
    }
    argv = [sys.executable, "-m", "celery", "-A", "worker", "flower"]
    child = Child("flower", argv, env | own, folder / "flower.log")

    def ready() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/healthcheck", timeout=1).status_code == 200
        except httpx.HTTPError:
            return False

    child.ready = ready
    return child


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
