"""The doctor's checks against real servers: each problem is caused for real, and has advice."""

from typing import Any

import pytest

from support.doctor import configured, faults
from support.ledger import Bench
from worker.doctor import (
    clock_checks,
    index_checks,
    mongo_checks,
    process_checks,
    redis_checks,
    source_checks,
    stream_checks,
)
from worker.doctor.findings import Level
from worker.errors import UnusableServer
from worker.runs.run import Run
from worker.startup import redis_check
from worker.stores.checkpoints import Checkpoints
from worker.stores.key_types import MARKER_KEY, MOVED

pytestmark = pytest.mark.usefixtures("indexed")


def only(check: Any, bench: Bench, level: Level, *words: str) -> None:
    (found,) = faults(check, bench)
    assert found.level is level
    for word in words:
        assert word in f"{found.message} {found.advice}"


# --- Redis --------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("changeable_redis")
@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        (
            "maxmemory-policy",
            "allkeys-lru",
            ["allkeys-lru", "deletes queues", "SET maxmemory-policy noeviction"],
        ),
        ("appendonly", "no", ["appendonly is off", "CONFIG SET appendonly yes"]),
        ("appendfsync", "no", ["appendfsync is no", "CONFIG SET appendfsync everysec"]),
    ],
)
def test_redis_that_may_lose_data_is_a_failure(bench: Bench, name: str, value: str, words: list[str]) -> None:
    assert not faults(redis_checks.check, bench)
    with configured(bench, name, value):
        only(redis_checks.check, bench, Level.FAILURE, *words)


@pytest.mark.usefixtures("changeable_redis")
@pytest.mark.parametrize(("share", "level"), [(0.92, Level.WARNING), (0.99, Level.FAILURE)])
def test_redis_whose_memory_is_nearly_used_up_is_reported(bench: Bench, share: float, level: Level) -> None:
    bench.connections.redis.setrange("filler", 20_000_000, b"x")  # next to which the check's connections are nothing
    used = bench.connections.redis.info("memory")["used_memory"]
    with configured(bench, "maxmemory", str(round(used / share))):
        only(redis_checks.check, bench, level, "memory in use", "Raise maxmemory")


def test_doctor_names_a_key_of_the_wrong_type_and_those_that_were_moved(bench: Bench) -> None:
    bench.connections.redis.set(MARKER_KEY, "this service's")
    bench.connections.redis.lpush("snapshots:events", "x")
    (found,) = faults(redis_checks.check, bench)
    assert found.level is Level.FAILURE
    assert found.message == ("Redis commands fail, because the key snapshots:events is a list, but should be a stream.")
    assert "RENAME snapshots:events NAME" in (found.advice or "")
    bench.connections.redis.rename("snapshots:events", f"{MOVED}1795953625106:snapshots:events")
    (found,) = faults(redis_checks.check, bench)
    assert found.level is Level.WARNING
    assert f"{MOVED}1795953625106:snapshots:events" in found.message


def test_database_of_another_program_is_refused_at_the_start(bench: Bench) -> None:
    bench.connections.redis.sadd("snapshots.bulk", "another program's")
    with pytest.raises(UnusableServer, match=r"the key snapshots.bulk is a set, but should be a list.* another data"):
        redis_check.check(bench.settings)
    bench.connections.redis.set(MARKER_KEY, "this service's")
    redis_check.check(bench.settings)


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


def test_messages_that_are_a_view_are_a_warning(bench: Bench) -> None:
    bench.database.messages.drop()
    bench.database.create_collection("messages", viewOn="posts", pipeline=[])
    only(index_checks.check, bench, Level.WARNING, "messages is a view", "SNAPSHOTS_CREATE_SOURCE_INDEXES=false")


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
    assert "No listener reads" in nobody.message
    assert "oldest unread intake entry" in late.message


def test_consumer_group_of_the_events_that_fell_behind_is_a_warning(bench: Bench) -> None:
    client: Any = bench.connections.redis
    client.xgroup_create(bench.settings.requests_stream, "snapshots", id="0", mkstream=True)
    client.xreadgroup("snapshots", "one", {bench.settings.requests_stream: ">"})
    client.xgroup_createconsumer(bench.settings.requests_stream, "snapshots", "one")
    client.xadd(bench.settings.events_stream, {"event": "{}"}, id="1-1")
    client.xgroup_create(bench.settings.events_stream, "billing", id="0")
    only(stream_checks.check, bench, Level.WARNING, "billing", "XGROUP DESTROY")


def test_sweep_that_does_not_come_is_a_failure(bench: Bench) -> None:
    Checkpoints(bench.connections).set("closings", {"reached": bench.ago(seconds=1)})
    only(process_checks.check_beat, bench, Level.FAILURE, "No sweep has ever run", "snapshots celery beat")
    Checkpoints(bench.connections).set("turn:sweep", {"begunAt": bench.ago(seconds=60)})
    only(process_checks.check_beat, bench, Level.FAILURE, "No sweep has run for 6", "snapshots.maintenance")
    Checkpoints(bench.connections).set("turn:sweep", {"begunAt": bench.ago(seconds=2)})
    assert not faults(process_checks.check_beat, bench)
    Checkpoints(bench.connections).set("closings", {"reached": bench.ago(minutes=5)})
    only(process_checks.check_beat, bench, Level.WARNING, "closed conversations", "snapshots listen")


def test_counts_that_do_not_add_up_are_a_failure(bench: Bench) -> None:
    Run(bench.service)(bench.chunk(2))
    assert not faults(process_checks.check_ledger, bench)
    bench.database.trainingsnapshots.delete_one({})
    only(process_checks.check_ledger, bench, Level.FAILURE, str(bench.organization), "snapshots status")


def test_request_that_waits_for_long_is_a_warning(bench: Bench) -> None:
    bench.change(bench.chunk(1), acceptedAt=bench.ago(minutes=30))
    only(process_checks.check_ledger, bench, Level.WARNING, "30 min", "Add workers")


def test_clocks_of_one_machine_agree(bench: Bench) -> None:
    assert not faults(clock_checks.check, bench)


# --- the platform's collections -----------------------------------------------------------------------


def test_database_without_conversations_is_a_warning_that_names_its_settings(bench: Bench) -> None:
    name = bench.settings.mongo_database
    only(source_checks.check, bench, Level.WARNING, name, "no contacts, conversations or messages", "MONGO_DATABASE")


def test_collection_with_another_name_is_a_warning_that_names_its_setting(bench: Bench) -> None:
    bench.database.contacts.insert_one({})
    bench.database.conversations.insert_one({})
    bench.database.messages.insert_one({})
    assert not faults(source_checks.check, bench)
    bench.database.messages.rename("message_archive")
    only(source_checks.check, bench, Level.WARNING, "collection messages", "SNAPSHOTS_MESSAGES_COLLECTION", "inspect")
