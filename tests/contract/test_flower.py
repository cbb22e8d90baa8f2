"""Flower as operators have it, on a real worker's events: who is let in, what is shown, and what never is."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from bson import ObjectId
from celery import Celery
from flower.urls import handlers

from support import served
from support.contacts import contact_with
from support.pipeline import accept
from support.stack import Running, stack
from support.waiting import eventually
from worker.flower.labels import COLUMNS
from worker.local.embedded import Servers
from worker.local.processes import Child
from worker.settings import Settings, load

ROOT = Path(__file__).parents[2]
LOGIN = ("operator", "a password of the tests")
COMMAND = [sys.executable, "-m", "celery", "-A", "worker", "flower", f"--conf={ROOT / 'flowerconfig.py'}"]
PERSONAL = ["Priya", "Holloway", "priya@example.com", "Grüße", "Call me on", "+49 170 5550100", "private note"]
OPEN = {r"/metrics", r"/healthcheck", r"/static/(.*)", r"/login/?", r"/logout", r".*"}


@dataclass
class Watched:
    """Flower, what it watches, and the requests that were made."""

    running: Running
    flower: Child
    client: httpx.Client
    organization: ObjectId
    made: ObjectId
    retried: ObjectId
    failed: ObjectId

    def rows(self, search: str = "") -> list[dict[str, Any]]:
        """Of the tasks page."""
        form = {"draw": 1, "start": 0, "length": 100, "order[0][column]": 0, "columns[0][data]": "received"}
        answer = self.client.post("/tasks/datatable", data={**form, "search[value]": search})
        assert answer.status_code == 200, answer.text
        rows: list[dict[str, Any]] = answer.json()["data"]
        return rows

    def row(self, key: ObjectId, state: str | None = None) -> dict[str, Any]:
        """The newest of a request's task."""
        found = [each for each in self.rows() if each["request"] == str(key)]
        assert found, f"no task of {key}"
        newest = max(found, key=lambda each: each["timestamp"])
        assert state in {None, newest["state"]}, newest
        return newest


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def environment(settings: Settings, **more: str) -> dict[str, str]:
    return {
        "SNAPSHOTS_REDIS_URL": settings.redis_url,
        "SNAPSHOTS_MONGO_URL": settings.mongo_url,
        "SNAPSHOTS_MONGO_DATABASE": settings.mongo_database,
        **more,
    }


@contextmanager
def flower(settings: Settings, folder: Path) -> Iterator[tuple[Child, httpx.Client]]:
    """Flower and a client that is logged in. Its file is the folder's, so that it can be started again."""
    port = free_port()
    own = {"FLOWER_ADDRESS": "127.0.0.1", "FLOWER_PORT": str(port), "FLOWER_DB": str(folder / "seen")}
    env = environment(settings, FLOWER_BASIC_AUTH=":".join(LOGIN), **own)
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


@pytest.fixture(scope="module")
def own_settings(servers: Servers) -> Iterator[Settings]:
    quick = {"retry_floor": timedelta(seconds=0.2), "retry_ceiling": timedelta(seconds=0.5)}
    made = served.own_settings(servers).model_copy(update=quick)
    with redis.Redis.from_url(made.redis_url) as client:
        yield made
        client.flushdb()


@pytest.fixture(scope="module")
def watched(own_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """A request that completes, one that is retried until its contact comes, one that fails, and foreign messages."""
    folder = tmp_path_factory.mktemp("flower")
    env = {"SWEEP_INTERVAL": "0.5s", "RETRY_FLOOR": "0.2s", "RETRY_CEILING": "0.5s"}
    with flower(own_settings, folder) as (child, client), stack(own_settings, folder, env) as running:
        eventually(lambda: client.get("/api/tasks").json(), 60, 0.1)  # it sees the sweeps
        database = running.database
        contact = contact_with(database, 3)
        database.contacts.update_one({"_id": contact.id}, {"$set": {"phoneNumber": "+49 170 5550100"}})
        organization = contact.organization
        late = ObjectId()
        service = running.bench.service
        requests = [
            accept(service, organization, contact.id, "priya@example.com", notes="a private note").id,
            accept(service, organization, late, "late").id,
            accept(service, organization, contact.id, "missing", messageIds=[str(ObjectId())]).id,
        ]
        watched = Watched(running, child, client, organization, *requests)
        eventually(lambda: watched.row(watched.retried)["exception"], 60, 0.1)
        database.messages.insert_one(
            {"_id": ObjectId(), "organizationId": organization, "contactId": late, "content": "Call me on"}
        )
        database.contacts.insert_one({"_id": late, "organizationId": organization, "firstName": "Priya"})
        send_foreign(own_settings, organization, contact.id)
        running.finished(requests)
        for key in requests:
            eventually(lambda key=key: watched.row(key, "SUCCESS"), 45, 0.1)  # type: ignore[misc]
        yield watched
        database.client.drop_database(database.name)


def send_foreign(settings: Settings, organization: ObjectId, contact: ObjectId) -> None:
    """A producer of another project, that tells of what it sends: a good request, a faulty one, an unknown task."""
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


def paths() -> list[str]:
    """All that Flower answers on, but for what is open to anyone."""
    patterns = (each.regex.pattern if hasattr(each, "regex") else each[0] for each in handlers)
    return sorted({re.sub(r"\(.*?\)", "x", each.rstrip("$")) for each in patterns if each.rstrip("$") not in OPEN})


@pytest.mark.parametrize("path", paths())
@pytest.mark.parametrize("login", [None, ("operator", "wrong"), ("", "")])
def test_without_the_login_nothing_is_shown(watched: Watched, path: str, login: tuple[str, str] | None) -> None:
    with httpx.Client(base_url=watched.client.base_url, auth=login) as stranger:
        answers = [stranger.get(path), stranger.post(path)]
    assert {each.status_code for each in answers} <= {401, 405}
    assert 401 in {each.status_code for each in answers}
    assert str(watched.organization) not in "".join(each.text for each in answers)


def test_what_is_open_tells_of_no_request(watched: Watched) -> None:
    with httpx.Client(base_url=watched.client.base_url) as stranger:
        told = stranger.get("/metrics").text + stranger.get("/healthcheck").text
    assert "flower_events_total" in told
    assert not [each for each in (*PERSONAL, str(watched.organization), str(watched.made)) if each in told]


def test_a_task_is_shown_with_its_request_organization_and_trigger(watched: Watched) -> None:
    row = watched.row(watched.made)
    shown = {name: row[name] for name in ("name", "request", "organization", "trigger", "state", "outcome")}
    assert shown == {
        "name": "snapshots.create",
        "request": str(watched.made),
        "organization": str(watched.organization),
        "trigger": "client",
        "state": "SUCCESS",
        "outcome": "completed",
    }


def test_a_retried_task_is_shown_with_its_reason(watched: Watched) -> None:
    found = [each for each in watched.rows() if each["request"] == str(watched.retried)]
    assert max(each["retries"] or 0 for each in found) >= 1
    assert any("ParentNotYetThere" in (each["exception"] or "") for each in found)


def test_a_failed_request_is_shown_with_its_code(watched: Watched) -> None:
    assert watched.row(watched.failed)["outcome"] == "failed: messages_not_found"


def test_the_pages_name_the_columns_and_the_queues(watched: Watched) -> None:
    tasks = watched.client.get("/tasks").text
    assert re.findall(r'<th data-column="(\w+)">([^<]+)<', tasks) == list(COLUMNS.items())
    task = watched.client.get(f"/task/{watched.row(watched.made)['uuid']}").text
    assert str(watched.organization) in task
    broker = watched.client.get("/api/queues/length").json()["active_queues"]
    assert {each["name"] for each in broker} >= {"snapshots", "snapshots.bulk", "snapshots.maintenance"}


def test_a_task_is_found_by_its_request(watched: Watched) -> None:
    found = watched.rows(str(watched.failed))
    assert {each["request"] for each in found} == {str(watched.failed)}


def test_nothing_personal_is_in_pages_api_metrics_or_logs(watched: Watched) -> None:
    client = watched.client
    tasks = client.get("/api/tasks", params={"limit": 1000}).json()
    assert {"snapshots.request", "snapshots.create"} <= {each["name"] for each in tasks.values()}
    (worker,) = client.get("/api/workers", params={"refresh": "1"}).json()
    pages = ["/", "/workers", "/tasks", "/broker", "/metrics"]
    pages += ["/api/workers", "/api/tasks?limit=1000", "/api/task/types"]
    pages += [f"/worker/{worker}", *(f"/task/{each}" for each in tasks), *(f"/api/task/info/{each}" for each in tasks)]
    texts = {page: client.get(page).text for page in pages}
    texts["datatable"] = str(watched.rows())
    texts["log of Flower"] = (watched.flower.log or Path()).read_text()
    texts["logs of the worker"] = watched.running.logs()
    assert not [(name, each) for name, text in texts.items() for each in PERSONAL if each in text]


def test_flower_cannot_change_anything(watched: Watched) -> None:
    answer = watched.client.post("/api/task/send-task/snapshots.sweep", json={"args": []})
    assert answer.status_code == 403
    assert watched.client.post(f"/api/task/revoke/{watched.row(watched.made)['uuid']}").status_code == 403


def test_what_was_seen_outlives_a_restart(watched: Watched) -> None:
    watched.flower.stop(20)
    watched.flower.start()
    watched.flower.wait_until_ready(60)
    assert watched.row(watched.made)["organization"] == str(watched.organization)


def test_without_a_login_it_refuses_to_start_with_the_reason(servers: Servers) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("FLOWER_")}
    env |= environment(load(redis_url=servers.redis_url, mongo_url=servers.mongo_url))
    ended = subprocess.run(COMMAND, env=env, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert "flower: a login is required: set FLOWER_BASIC_AUTH=name:password, or FLOWER_AUTH for OAuth" in ended.stderr
