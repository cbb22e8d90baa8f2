"""Flower on the events of a real worker, for requests of every kind, and its client."""

import re
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from bson import ObjectId
from celery import Celery

from support.contacts import contact_with
from support.pipeline import accept
from support.stack import Running, stack
from support.waiting import eventually
from worker.local.processes import Child
from worker.settings import Settings

ROOT = Path(__file__).parents[2]
LOGIN = ("operator", "a password of the tests")
COMMAND = [sys.executable, "-m", "celery", "-A", "worker", "flower", f"--conf={ROOT / 'flowerconfig.py'}"]
OPERATIONS = "https://api.example/operations"


@dataclass
class Watched:
    """Flower, the system that it watches, and the requests made there."""

    running: Running
    flower: Child
    client: httpx.Client
    organization: ObjectId
    made: ObjectId
    retried: ObjectId
    contact: ObjectId
    failed: ObjectId = field(default_factory=ObjectId)
    """One that names a missing message."""
    chunk: list[ObjectId] = field(default_factory=list)
    """A chunk of three: the first completes, the others name the missing message."""
    missing: ObjectId = field(default_factory=ObjectId)
    """The missing message."""

    def rows(self, search: str = "") -> list[dict[str, Any]]:
        """Return the rows of the tasks page, all of them: after a minute of sweeps there are more than a page holds."""
        form = {"draw": 1, "start": 0, "length": 20_000, "order[0][column]": 0, "columns[0][data]": "received"}
        answer = self.client.post("/tasks/datatable", data={**form, "search[value]": search})
        assert answer.status_code == 200, answer.text
        assert not answer.json().get("searchError"), answer.text
        rows: list[dict[str, Any]] = answer.json()["data"]
        return rows

    def row(self, key: ObjectId, *states: str) -> dict[str, Any]:
        """Return the row of a request's newest task, or of the chunk's if it begins with the request."""
        found = [each for each in self.rows() if each["request"].startswith(str(key))]
        assert found, f"no task of {key}"
        newest = max(found, key=lambda each: each["timestamp"])
        assert not states or newest["state"] in states, newest
        return newest

    def arrive(self) -> None:
        """Insert the missing message."""
        ids = {"_id": self.missing, "organizationId": self.organization, "contactId": self.contact}
        self.running.database.messages.insert_one({**ids, "content": "Call me on", "createdAt": datetime.now(UTC)})

    def retry(self, *tasks: str, **changed: Any) -> httpx.Response:
        """Retry tasks as the pages do. `changed`: other headers or cookies."""
        self.client.get("/tasks")
        token = re.findall(r"_xsrf=([^;]+)", "; ".join(f"{k}={v}" for k, v in self.client.cookies.items()))[0]
        sent: dict[str, Any] = {"headers": {"X-XSRFToken": token}, **changed}
        return self.client.post("/retry", data={"task": list(tasks)}, **sent)

    def answers(self, *tasks: str) -> list[dict[str, Any]]:
        """Return what Flower answers to a retry of tasks."""
        answer = self.retry(*tasks)
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["answers"]
        return found


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def environment(settings: Settings, **more: str) -> dict[str, str]:
    """Return the environment of a process on the servers of these settings."""
    return {
        "SNAPSHOTS_REDIS_URL": settings.redis_url,
        "SNAPSHOTS_MONGO_URL": settings.mongo_url,
        "SNAPSHOTS_MONGO_DATABASE": settings.mongo_database,
        **more,
    }


@contextmanager
def flower(settings: Settings, folder: Path) -> Iterator[tuple[Child, httpx.Client]]:
    """Start Flower, and a client that is logged in. Its history is kept in the folder, so that it can be restarted.

    Its login is in a file, as in containers; `snapshots up` passes it in the environment.
    """
    port = _free_port()
    secrets = folder / "secrets"
    secrets.mkdir()
    (secrets / "FLOWER_BASIC_AUTH").write_text(":".join(LOGIN) + "\n")
    own = {"FLOWER_ADDRESS": "127.0.0.1", "FLOWER_PORT": str(port), "FLOWER_DB": str(folder / "seen")}
    own |= {"SNAPSHOTS_SECRETS_DIR": str(secrets), "SNAPSHOTS_OPERATIONS_URL": f"{OPERATIONS}/"}
    env = environment(settings, **own)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", auth=LOGIN, timeout=20) as client:

        def answers() -> bool:
            try:
                return client.get("/healthcheck").status_code == 200
            except httpx.TransportError:
                return False

        child = Child("flower", COMMAND, env, folder / "flower.log", ready=answers)
        child.start()
        try:
            child.wait_until_ready(60)
            yield child, client
        finally:
            child.stop(20)


@contextmanager
def watched_system(settings: Settings, folder: Path, env: Mapping[str, str] | None = None) -> Iterator[Watched]:
    """Make requests of every kind: one completes, one is retried, some fail, and there are foreign messages.

    `env`: further settings of worker and beat in capitals, without their prefix.
    """
    env = {"SWEEP_INTERVAL": "0.5s", "RETRY_FLOOR": "0.2s", "RETRY_CEILING": "0.5s", **(env or {})}
    with flower(settings, folder) as (child, client), stack(settings, folder, env) as running:
        eventually(lambda: client.get("/api/tasks").json(), 60, 0.1)  # it sees the sweeps
        database = running.database
        contact = contact_with(database, 3)
        database.contacts.update_one({"_id": contact.id}, {"$set": {"phoneNumber": "+49 170 5550100"}})
        organization = contact.organization
        late = ObjectId()
        service = running.bench.service
        made = accept(service, organization, contact.id, "priya@example.com", notes="a private note").id
        retried = accept(service, organization, late, "late").id
        watched = Watched(running, child, client, organization, made, retried, contact.id)
        eventually(lambda: watched.row(watched.retried)["exception"], 60, 0.1)
        database.messages.insert_one(
            {"_id": ObjectId(), "organizationId": organization, "contactId": late, "content": "Call me on"}
        )
        database.contacts.insert_one({"_id": late, "organizationId": organization, "firstName": "Priya"})
        missing = {"messageIds": [str(watched.missing)]}
        watched.failed = accept(service, organization, contact.id, "missing", **missing).id
        bodies: list[dict[str, Any]] = [{}, missing, missing]
        asked = [running.bench.asked(contact.id, organizationId=organization, **body) for body in bodies]
        watched.chunk = running.bench.accepted(*asked)
        running.publish(watched.chunk, "snapshots.bulk", size=3)
        _send_foreign(settings, organization, contact.id)
        running.finished([made, retried, watched.failed, *watched.chunk])
        for key in (made, retried):
            eventually(lambda key=key: watched.row(key, "SUCCESS"), 45, 0.1)  # type: ignore[misc]
        for key in (watched.failed, watched.chunk[0]):
            eventually(lambda key=key: watched.row(key, "FAILURE"), 45, 0.1)  # type: ignore[misc]
        yield watched
        database.client.drop_database(database.name)


def _send_foreign(settings: Settings, organization: ObjectId, contact: ObjectId) -> None:
    """Send as another project's producer, with events: a valid request, invalid ones, an unknown task."""
    with Celery("foreign", broker=settings.redis_url, set_as_current=False) as app:
        app.conf.update(task_send_sent_event=True)
        request = {"organizationId": str(organization), "contactId": str(contact), "notes": "a private note"}
        for name, body in (
            ("snapshots.request", request),
            ("snapshots.request", {**request, "email": "priya@example.com"}),
            ("snapshots.create", "Priya Holloway"),
            ("unknown.task", request),
        ):
            app.send_task(name, args=[body], kwargs={}, queue="snapshots", ignore_result=True)
