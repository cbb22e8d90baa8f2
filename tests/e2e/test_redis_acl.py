"""Redis users with restricted rights: the documented rules suffice, and the doctor names what is missing."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from bson import ObjectId

from support.commands import environment
from support.commands import run as run_command
from support.contacts import contact_with
from support.http import BACKFILLS, EXPORTS, SNAPSHOTS, api, client, token
from support.intake import GROUP, STREAM, listener_process, listeners
from support.ledger import bench_on
from support.programs import Ended, Order, run_programs
from support.redis_server import own_redis, valkey_server
from support.stack import stack
from support.waiting import eventually
from support.watched import watched_system
from worker.client import SnapshotClient
from worker.doctor import redis_checks
from worker.erasure.receipt import make_keys
from worker.settings import Settings
from worker.startup.redis_permissions import acl_rules
from worker.stores.key_types import key_types, moved_keys
from worker.stores.wakeups import INTERACTIVE

PASSWORD = "s3cret"
OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"
OPTIONAL = ["+info", "+config|get"]


@contextmanager
def server_with_user(folder: Path, settings: Settings, rules: list[str]) -> Iterator[tuple[Any, Settings]]:
    """A Redis whose user `snapshots` has these rules: its administrator's client, and settings for that user."""
    folder.mkdir(exist_ok=True)
    with own_redis(valkey_server(), folder, "--appendonly", "yes") as server:
        admin: Any = server
        admin.acl_setuser("snapshots", enabled=True, reset=True, passwords=[f"+{PASSWORD}"])
        admin.execute_command("ACL", "SETUSER", "snapshots", *rules)
        port = admin.connection_pool.connection_kwargs["port"]
        url = f"redis://snapshots:{PASSWORD}@127.0.0.1:{port}/0"
        yield admin, settings.model_copy(update={"redis_url": url})


def run(settings: Settings, folder: Path, *orders: tuple[str, list[str]]) -> list[Ended]:
    environment = {
        "SNAPSHOTS_REDIS_URL": settings.redis_url,
        "SNAPSHOTS_MONGO_URL": settings.mongo_url,
        "SNAPSHOTS_MONGO_DATABASE": settings.mongo_database,
        "FLOWER_BASIC_AUTH": "operator:long-enough",
        "FLOWER_DB": str(folder / "flower"),
    }
    return run_programs(
        [
            Order(program, arguments, environment, "Connected to" if "flower" in arguments else "")
            for program, arguments in orders
        ]
    )


def leave_pending(admin: Any) -> tuple[str, str]:
    """Leaves the entries of a dead listener: a request, and a closing that stays unresolved. Returns their ids."""
    ids = {"organizationId": str(ObjectId()), "contactId": str(ObjectId())}
    request = {"type": "snapshot.requested", "data": json.dumps(ids)}
    ids = {"organizationId": str(ObjectId()), "conversationId": str(ObjectId())}
    closing = {"type": "conversation.resolved", "data": json.dumps(ids)}
    added = [admin.xadd(STREAM, fields) for fields in (request, closing)]
    admin.xgroup_create(STREAM, GROUP, id="0")
    admin.xreadgroup(GROUP, "dead", {STREAM: ">"})
    first, second = (key.decode() if isinstance(key, bytes) else key for key in added)
    return first, second


def denials(admin: Any) -> list[str]:
    """What Redis refused to its users."""
    return [f"{entry['reason']} {entry['object']}" for entry in admin.acl_log()]


@pytest.mark.parametrize("rules", ["whole", pytest.param("without optional", marks=pytest.mark.acceptance)])
def test_documented_rules_suffice_for_every_process(rules: str, settings: Settings, tmp_path: Path) -> None:
    own_rules = [rule for rule in acl_rules() if rules == "whole" or rule not in OPTIONAL]
    with server_with_user(tmp_path / "redis", settings, own_rules) as (admin, own), ExitStack() as processes:
        env = {"SWEEP_INTERVAL": "1s", "METRICS_PORT": "0"}
        running = processes.enter_context(stack(own, tmp_path, env))
        claimed, unresolved = leave_pending(admin)
        listener = listener_process(own, tmp_path / "listener.log", {"SNAPSHOTS_LISTENER_IDLE": "0.5s"})
        processes.enter_context(listeners(listener))
        base, _ = processes.enter_context(api(own, tmp_path, {"API_RATE_LIMIT": "100"}))
        producer = processes.enter_context(SnapshotClient(own.redis_url, durable=True))
        contact = contact_with(running.database, 3)
        outcome = producer.wait(producer.request(contact.organization, contact.id), 40)
        assert outcome.snapshot_id is not None
        assert next(iter(producer.events("analytics", "one", timeout=10))).type == "training.snapshot.completed"
        with client(base, token(contact.organization, "ADMIN")) as http:
            assert http.post(SNAPSHOTS, json={"contactId": str(contact.id)}).status_code == 201
            assert http.get("/readyz").json()["status"] == "ready"
            metrics = http.get("/metrics")
            assert metrics.status_code == 200
            assert ("\nsnapshots_redis_memory_bytes " in metrics.text) is (rules == "whole")
        eventually(lambda: running.database.snapshotrequests.find_one({"requestId": f"stream:{claimed}"}))
        eventually(lambda: admin.info("commandstats").get("cmdstat_xclaim"))
        admin.xack(STREAM, GROUP, unresolved)
        ended = run(
            own,
            tmp_path,
            ("snapshots", ["doctor", "--no-request"]),
            ("snapshots", ["status"]),
            ("snapshots", ["events"]),
            ("celery", ["-A", "worker", "inspect", "active"]),
            ("liveness", ["listener"]),
            ("celery", ["-A", "worker", "flower", "--port=0"]),
        )
        *others, flower = ended
        assert "Connected to redis://snapshots" in flower.output
        for program in others[1:]:
            assert program.code == 0, program.output
        assert "the ACL allows every command, key and channel" in others[0].output
        # What was waiting and what was emitted comes back after a flush, also without INFO.
        admin.set(INTERACTIVE, "written by mistake")
        eventually(lambda: list(moved_keys(admin)), 20)
        waiting = running.bench.chunk(2)
        running.bench.change(waiting, enqueuedAt=running.bench.ago(minutes=1), queue=INTERACTIVE)
        admin.flushall()
        running.finished(waiting, 60)
        eventually(lambda: len({event["id"] for event in running.bench.events()}) == 4, 60)
        allowed = set() if rules == "whole" else {"command info", "command config|get"}
        assert set(denials(admin)) <= allowed


def completed(http: httpx.Client, place: str) -> dict[str, Any]:
    """A job of the API, once it is completed."""

    def check() -> dict[str, Any]:
        data: dict[str, Any] = http.get(place).json()["data"]
        assert data["status"] == "completed", data
        return data

    return eventually(check, 60, 0.1)


@pytest.mark.acceptance
def test_documented_rules_suffice_for_jobs_retries_and_keys_of_the_wrong_type(
    settings: Settings, tmp_path: Path
) -> None:
    make_keys(tmp_path / "erasure.pem")
    shared = {
        "EXPORTS_URL": str(tmp_path / "exports"),
        "ERASURE_KEY": "k" * 32,
        "ERASURE_SIGNING_KEY": str(tmp_path / "erasure.pem"),
    }
    with server_with_user(tmp_path / "redis", settings, acl_rules()) as (admin, own), ExitStack() as processes:
        watched = processes.enter_context(watched_system(own, tmp_path, shared))
        base, _ = processes.enter_context(api(own, tmp_path, shared))
        http = processes.enter_context(client(base, token(watched.organization, "ADMIN")))

        watched.arrive()
        failed = watched.row(watched.failed)["uuid"]
        (answer,) = watched.answers(failed)
        assert answer["result"] == "retried", answer
        watched.running.finished([watched.failed])

        contact = contact_with(watched.running.database, 2, 3, organization=watched.organization)
        for path, body in ((BACKFILLS, {}), (EXPORTS, {"format": "jsonl"})):
            begun = http.post(path, json=body)
            assert begun.status_code == 202, begun.text
            assert completed(http, begun.headers["location"])
        begun = http.delete(f"/api/training/contacts/{contact.id}")
        assert begun.status_code == 202, begun.text
        assert completed(http, begun.headers["location"])["receipt"]

        with admin.pipeline() as pipeline:
            for key in key_types(own):
                pipeline.set(key, "written by mistake")
            pipeline.execute()
        eventually(lambda: len(list(moved_keys(admin))) >= len(key_types(own)), 20, 0.1)
        body = {"contactId": str(watched.contact)}
        eventually(lambda: http.post(SNAPSHOTS, json=body).status_code == 201, 20, 0.1)
        assert denials(admin) == []


@pytest.mark.parametrize(
    ("missing", "named"),
    [
        ("+xautoclaim", "the command xautoclaim"),
        ("+script|load", "the command script|load"),
        ("~_kombu.binding*", "access to the key that was used by SMEMBERS _kombu.binding.x"),
        ("&/0.celery.pidbox", "access to the channel that was used by PSUBSCRIBE /0.celery.pidbox"),
    ],
)
def test_doctor_and_processes_name_what_the_acl_refuses(
    missing: str, named: str, settings: Settings, tmp_path: Path
) -> None:
    rules = [rule for rule in acl_rules() if rule != missing]
    assert len(rules) < len(acl_rules())
    with server_with_user(tmp_path / "redis", settings, rules) as (_, own), bench_on(own) as bench:
        messages = [finding.message for finding in redis_checks.check_permissions(bench.settings)]
        listener = run_command(environment(own), "listen")
    assert any(named in message for message in messages), messages
    assert (listener.code, named in listener.stderr) == (2, True), listener.stderr
    assert "Traceback" not in listener.stderr


def test_doctor_without_info_warns_and_checks_the_rest(settings: Settings, tmp_path: Path) -> None:
    rules = [rule for rule in acl_rules() if rule not in OPTIONAL]
    with server_with_user(tmp_path / "redis", settings, rules) as (_, own), bench_on(own) as bench:
        findings = list(redis_checks.check(bench.connections))
    assert [finding.level for finding in findings] == ["ok", "warning", "warning"]
    assert "the command info" in findings[1].message


def test_checking_the_rights_changes_nothing(settings: Settings, tmp_path: Path) -> None:
    with server_with_user(tmp_path / "redis", settings, acl_rules()) as (admin, own), bench_on(own) as bench:
        assert [finding.level for finding in redis_checks.check_permissions(bench.settings)] == ["ok"]
        assert admin.keys("*") == []


def test_documented_rules_are_those_that_are_tested() -> None:
    text = " ".join(OPERATIONS.read_text().split())
    assert " ".join(acl_rules()) in text
