"""Flower on the events of a real worker: who may see it, what it shows, what it retries, and what it never shows."""

import base64
import hashlib
import os
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from bson import ObjectId
from flower.urls import handlers

from support import served
from support.pipeline import accept
from support.waiting import eventually
from support.watched import COMMAND, OPERATIONS, ROOT, Watched, environment, watched_system
from worker.flower.labels import COLUMNS
from worker.local.embedded import Servers
from worker.settings import Settings, load

PERSONAL = ["Priya", "Holloway", "priya@example.com", "Grüße", "Call me on", "+49 170 5550100", "private note"]
OPEN = {r"/metrics", r"/healthcheck", r"/static/(.*)", r"/login/?", r"/logout", r".*"}
FAILED = "messages_not_found: Some of the messages do not exist or do not belong to this contact."


@pytest.fixture(scope="module")
def own_settings(servers: Servers) -> Iterator[Settings]:
    quick = {"retry_floor": timedelta(seconds=0.2), "retry_ceiling": timedelta(seconds=0.5)}
    made = served.own_settings(servers).model_copy(update=quick)
    with redis.Redis.from_url(made.redis_url) as client:
        yield made
        client.flushdb()


@pytest.fixture(scope="module")
def watched(own_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    with watched_system(own_settings, tmp_path_factory.mktemp("flower")) as made:
        yield made


def paths() -> list[str]:
    """Return every path of Flower that requires a login."""
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


def test_pages_without_login_show_nothing_of_requests(watched: Watched) -> None:
    with httpx.Client(base_url=watched.client.base_url) as stranger:
        told = stranger.get("/metrics").text + stranger.get("/healthcheck").text
    assert "flower_events_total" in told
    assert not [each for each in (*PERSONAL, str(watched.organization), str(watched.made)) if each in told]


def test_task_is_shown_with_its_request_organization_and_trigger(watched: Watched) -> None:
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


def test_retried_task_is_shown_with_its_reason(watched: Watched) -> None:
    found = [each for each in watched.rows() if each["request"] == str(watched.retried)]
    assert max(each["retries"] or 0 for each in found) >= 1
    assert any("ParentMissing" in (each["exception"] or "") for each in found)


def test_failed_tasks_are_listed_with_the_reasons_of_their_requests(watched: Watched) -> None:
    tasks = watched.client.get("/api/tasks", params={"state": "FAILURE"}).json()
    shown = {each["args"]: (each["exception"], each["traceback"]) for each in tasks.values()}
    assert shown == {
        str(watched.failed): (f"RequestFailed('{FAILED}')", f"{watched.failed}: {FAILED}"),
        f"3 requests from {watched.chunk[0]}": (
            "RequestFailed('2 of 3 requests failed: 2 messages_not_found')",
            "\n".join(f"{key}: {FAILED}" for key in watched.chunk[1:]),
        ),
    }
    assert watched.row(watched.failed)["outcome"] == "failed: messages_not_found"


def test_pages_name_the_columns_and_the_queues(watched: Watched) -> None:
    tasks = watched.client.get("/tasks").text
    assert re.findall(r'<th data-column="(\w+)">([^<]+)<', tasks) == list(COLUMNS.items())
    assert f'data-operations="{OPERATIONS}"' in tasks
    task = watched.client.get(f"/task/{watched.row(watched.made)['uuid']}").text
    assert str(watched.organization) in task
    assert f'data-requests="{watched.made}"' in task
    broker = watched.client.get("/api/queues/length").json()["active_queues"]
    assert {each["name"] for each in broker} >= {"snapshots", "snapshots.bulk", "snapshots.maintenance"}


def test_tasks_are_found_by_request_organization_trigger_outcome_and_reason(watched: Watched) -> None:
    failed, chunk, made = (watched.row(key)["uuid"] for key in (watched.failed, watched.chunk[0], watched.made))
    code = "messages_not_found"
    for search, expected in (
        (str(watched.failed), {failed}),
        (str(watched.chunk[2]), {chunk}),
        (code, {failed, chunk}),
        (f"reason:{code}", {failed, chunk}),
        (f"state:FAILURE organization:{watched.organization}", {failed, chunk}),
        (f"outcome:{code} trigger:client", {failed, chunk}),
        (f"organization:{ObjectId()}", set()),
        ("trigger:backfill", set()),
    ):
        assert {each["uuid"] for each in watched.rows(search)} == expected, search
        found = watched.client.get("/api/tasks", params={"search": search})
        assert set(found.json()) == expected, search
    assert made in {each["uuid"] for each in watched.rows("outcome:completed")}
    assert made in {each["uuid"] for each in watched.rows(str(watched.organization))}


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


def test_every_answer_has_a_policy_that_allows_its_own_scripts_alone(watched: Watched) -> None:
    (worker,) = watched.client.get("/api/workers", params={"refresh": "1"}).json()
    uuid = watched.row(watched.made)["uuid"]
    pages = ["/", "/workers", f"/worker/{worker}", "/tasks", f"/task/{uuid}", "/broker", "/no/such/page"]
    for path in (*pages, "/api/tasks", "/metrics", "/static/js/flower.js", "/retry/retry.js"):
        answer = watched.client.get(path)
        assert answer.status_code == (404 if "such" in path else 200)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "'unsafe-inline'" not in policy.partition("script-src")[2].partition(";")[0]
        assert (answer.headers["x-frame-options"], answer.headers["x-content-type-options"]) == ("DENY", "nosniff")
        if path in pages:
            for script in re.findall(r"<script(?: type=\S+)?>(.*?)</script>", answer.text, re.DOTALL):
                assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in policy
            assert not re.search(r"\son\w+=", answer.text)


def test_flower_cannot_change_anything_else(watched: Watched) -> None:
    answer = watched.client.post("/api/task/send-task/snapshots.sweep", json={"args": []})
    assert answer.status_code == 403
    assert watched.client.post(f"/api/task/revoke/{watched.row(watched.made)['uuid']}").status_code == 403


def test_retry_needs_the_login_and_the_token_of_the_page(watched: Watched) -> None:
    task = watched.row(watched.failed)["uuid"]
    strange: list[dict[str, Any]] = [
        {"auth": None},
        {"auth": ("operator", "wrong")},
        {"headers": {}},
        {"headers": {"X-XSRFToken": "2|00000000|00000000000000000000000000000000|1700000000"}},
    ]
    token = watched.retry().request.headers["X-XSRFToken"]
    strange += [
        {"headers": {"X-XSRFToken": token, "Sec-Fetch-Site": "cross-site"}},
        {"headers": {"X-XSRFToken": token, "Origin": "https://evil.example"}},
    ]
    for changed in strange:
        assert watched.retry(task, **changed).status_code == (401 if "auth" in changed else 403), changed
    assert watched.client.get("/retry").status_code == 405
    assert watched.retry(*map(str, range(101))).status_code == watched.retry().status_code == 400
    assert watched.running.bench.entry(watched.failed)["round"] == 0


def test_retry_says_why_a_task_cannot_be_retried(watched: Watched) -> None:
    uuids = {each["name"]: each["uuid"] for each in watched.rows("name:snapshots.")}
    made, sweep, accepting = watched.row(watched.made)["uuid"], uuids["snapshots.sweep"], uuids["snapshots.request"]
    deleted = accept(
        watched.running.bench.service,
        watched.organization,
        watched.contact,
        "deleted",
        messageIds=[str(ObjectId())],
    ).id
    watched.running.finished([deleted])
    gone = eventually(lambda: watched.row(deleted, "FAILURE"), 45, 0.1)["uuid"]
    watched.running.database.snapshotrequests.delete_one({"_id": deleted})
    found = {each["task"]: each for each in watched.answers(made, sweep, accepting, gone, "<b>no</b>")}
    assert {task: each["result"] for task, each in found.items()} == {
        made: "completed",
        sweep: "no_request",
        accepting: "no_request",
        gone: "not_found",
        "<b>no</b>": "unknown_task",
    }
    assert found[made]["message"] == "The request cannot be retried, because it has completed."
    assert found[gone]["message"] == "The ledger no longer has this request: its entry was deleted."


def test_retried_tasks_succeed_each_once_however_often_retry_is_pressed(watched: Watched) -> None:
    """The last of the tests that need failed tasks."""
    failed, chunk = (watched.row(key)["uuid"] for key in (watched.failed, watched.chunk[0]))
    watched.arrive()
    with ThreadPoolExecutor(4) as pool:
        each_answer = [
            each for answers in pool.map(lambda _: watched.answers(failed, chunk), range(4)) for each in answers
        ]
    assert sum(each["requests"] for each in each_answer if each["task"] == failed) == 1
    assert sum(each["requests"] for each in each_answer if each["task"] == chunk) == 2
    assert {each["result"] for each in each_answer} <= {"retried", "in_flight", "completed"}
    keys = [watched.failed, *watched.chunk]
    entries = watched.running.finished(keys)
    assert [(each["status"], each["round"]) for each in sorted(entries, key=lambda each: keys.index(each["_id"]))] == [
        ("completed", 1),
        ("completed", 0),
        ("completed", 1),
        ("completed", 1),
    ]
    for task in (failed, chunk):
        info = eventually(lambda task=task: _succeeded(watched, task), 45, 0.1)  # type: ignore[misc]
        assert (info["exception"], info["traceback"]) == (None, None)
    assert not {failed, chunk} & set(watched.client.get("/api/tasks", params={"state": "FAILURE"}).json())
    log = (watched.flower.log or Path()).read_text()
    assert re.search(rf'"operator": "operator".*"task": "{failed}"|"task": "{failed}".*"operator": "operator"', log)
    assert 'snapshots_flower_retries_total{result="retried"} 2.0' in watched.client.get("/metrics").text


def _succeeded(watched: Watched, task: str) -> dict[str, Any]:
    info: dict[str, Any] = watched.client.get(f"/api/task/info/{task}").json()
    assert info["state"] == "SUCCESS"
    return info


def test_history_survives_a_restart(watched: Watched) -> None:
    watched.flower.stop(20)
    watched.flower.start()
    watched.flower.wait_until_ready(60)
    assert watched.row(watched.made)["organization"] == str(watched.organization)
    assert str(watched.made) in {each["request"] for each in watched.rows(str(watched.organization))}


def test_without_a_login_it_refuses_to_start_with_the_reason(servers: Servers) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("FLOWER_")}
    env |= environment(load(redis_url=servers.redis_url, mongo_url=servers.mongo_url))
    ended = subprocess.run(COMMAND, env=env, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert "flower: a login is required: set FLOWER_BASIC_AUTH=name:password, or FLOWER_AUTH for OAuth" in ended.stderr
