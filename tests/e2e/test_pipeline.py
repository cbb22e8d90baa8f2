"""The pipeline as real processes: what is accepted has one outcome, whatever is killed."""

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pymongo
import pytest
from bson import ObjectId

from support.faults import failing
from support.stack import Running, kill_pool, stack
from support.waiting import eventually
from worker.local.embedded import Servers
from worker.settings import Settings

QUICK = {"RUN_DEADLINE": "1s", "SWEEP_INTERVAL": "1s", "RETRY_FLOOR": "0.2s", "PARENT_WAIT": "4s"}


@pytest.fixture
def running(settings: Settings, tmp_path: Path) -> Iterator[Running]:
    with stack(settings, tmp_path, QUICK) as made:
        yield made


def rejected(running: Running) -> list[dict[str, Any]]:
    found: Any = running.redis.xrange("snapshots:rejected")
    return [{name.decode(): value.decode() for name, value in fields.items()} for _, fields in found]


def waiting_headers(running: Running) -> list[dict[str, Any]]:
    """Of the messages that workers hold until their countdown ends."""
    held: Any = running.redis.hvals("unacked")
    headers: list[dict[str, Any]] = [json.loads(each)[0]["headers"] for each in held]
    return headers


def assert_one_outcome_each(running: Running, keys: list[ObjectId]) -> None:
    """One snapshot for each, its event with one content, and nothing else."""
    assert set(running.bench.snapshots()) == set(keys)
    events = running.bench.events()
    assert {each["id"] for each in events} == {f"{key}.0" for key in keys}
    assert len({json.dumps(each) for each in events}) == len(keys)


class Seen:
    """What Flower would see: the workers' events."""

    def __init__(self, running: Running) -> None:
        self.events: list[dict[str, Any]] = []
        self._connection = running.app.connection_for_read()
        self._receiver: Any = running.app.events.Receiver(self._connection, handlers={"*": self.events.append})
        self._thread = Thread(target=self._receive, daemon=True)

    def _receive(self) -> None:
        while not self._receiver.should_stop:
            with contextlib.suppress(TimeoutError):
                self._receiver.capture(limit=None, timeout=0.5, wakeup=True)

    def __enter__(self) -> "Seen":
        self._thread.start()
        eventually(lambda: self.of("worker-heartbeat"), 45)
        return self

    def __exit__(self, *_: object) -> None:
        self._receiver.should_stop = True
        self._thread.join()
        self._connection.release()

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [each for each in self.events if each["type"] == kind]


def test_request_of_a_plain_celery_app_becomes_a_snapshot_and_shows_nothing_personal(running: Running) -> None:
    contact = running.bench.contact()
    running.bench.conversation(contact, 3)
    body = {
        "organizationId": str(running.bench.organization),
        "contactId": str(contact),
        "notes": "Priya moved house",
        "requestId": "mine",
    }
    with Seen(running) as seen:
        for _ in range(2):
            running.app.send_task("snapshots.request", args=[body], queue="snapshots")
        derived = running.app.send_task(
            "snapshots.request", args=[{**body, "requestId": None}], queue="snapshots", task_id="t-1"
        )
        for wrong in ([{**body, "tags": "Priya"}], ["Priya"], [], [{**body, "notes": "another"}]):
            running.app.send_task("snapshots.request", args=wrong, queue="snapshots")
        eventually(lambda: len(rejected(running)) == 4, 45)
        eventually(lambda: running.database.snapshotrequests.count_documents({"status": "completed"}) == 2, 45)
        eventually(lambda: len(seen.of("task-succeeded")) >= 9, 45)
    entries = list(running.database.snapshotrequests.find())
    assert {each["requestId"] for each in entries} == {"mine", f"task:{derived.id}"}
    assert_one_outcome_each(running, [each["_id"] for each in entries])
    reasons = [json.loads(each["reason"]) for each in rejected(running)]
    assert [each["code"] for each in reasons].count("invalid_request") == 3
    assert [each["code"] for each in reasons].count("request_id_conflict") == 1
    assert all(each["origin"].startswith("task:") for each in rejected(running))
    said = json.dumps(seen.events, default=str) + running.logs()
    assert "Priya" not in said
    assert "moved house" not in said


def test_undecodable_and_unknown_messages_are_rejected_and_the_worker_goes_on(running: Running) -> None:
    before = len(rejected(running))
    running.app.send_task("snapshots.unheard-of", args=[], queue="snapshots")
    running.app.send_task("snapshots.create", args=["Priya"], queue="snapshots")
    running.app.send_task("snapshots.create", args=[["Priya"]], queue="snapshots")
    keys = running.bench.chunk(1)
    running.publish(keys)
    running.finished(keys)
    eventually(lambda: len(rejected(running)) == before + 3)
    reasons = [json.loads(each["reason"])["message"] for each in rejected(running)[before:]]
    assert "headers.task: is not the name of a task" in reasons[0]
    assert "Priya" not in running.logs()


def test_retries_are_seen_with_their_reason_and_end_as_contact_not_found(running: Running) -> None:
    late = ObjectId()
    with Seen(running) as seen:
        never, comes = running.bench.accepted(running.bench.asked(ObjectId()), running.bench.asked(late))
        running.publish([never, comes])
        eventually(lambda: seen.of("task-retried"), 45)
        retried = eventually(lambda: [each for each in waiting_headers(running) if each["retries"]], 45, 0.005)
        assert isinstance(retried[0]["stamp"], int)
        assert retried[0]["argsrepr"] in {str(never), str(comes)}
        running.bench.contact(_id=late)
        running.bench.conversation(late, 1)
        entries = {each["_id"]: each for each in running.finished([never, comes])}
        (failed,) = eventually(lambda: seen.of("task-failed"), 45)
    assert "contact_not_found: The organization has no such contact." in failed["exception"]
    assert failed["traceback"] == f"{never}: contact_not_found: The organization has no such contact."
    logged = [each for each in running.logs().splitlines() if failed["uuid"] in each and "RequestFailed" in each]
    assert [json.loads(each)["level"] for each in logged] == ["info"]
    assert "Traceback" not in running.logs()
    assert entries[never]["error"]["code"] == "contact_not_found"
    assert entries[comes]["status"] == "completed"
    assert all("ParentMissing" in each["exception"] for each in seen.of("task-retried"))
    uuids = {each["uuid"] for each in seen.of("task-received")}
    assert {each["uuid"] for each in seen.of("task-retried")} <= uuids


def test_killed_worker_and_pool_in_the_middle_lose_nothing_and_do_nothing_twice(running: Running) -> None:
    keys = running.bench.chunk(300)
    running.publish(keys[:150])
    running.publish(keys[150:], "snapshots.bulk", 20)

    def done() -> int:
        return running.database.snapshotrequests.count_documents({"status": "completed"})

    eventually(lambda: done() > 20, 45, 0.005)
    kill_pool(running.worker)
    eventually(lambda: done() > 60, 60, 0.005)
    running.worker.restart(60)
    running.finished(keys, 60)
    assert_one_outcome_each(running, keys)


def test_flush_while_workers_are_connected_brings_every_event_again(running: Running) -> None:
    first = running.bench.chunk(30)
    running.publish(first)
    running.finished(first)
    eventually(lambda: running.database.snapshotstate.find_one({"_id": "redis", "owedUntil": None}), 45)
    second = running.bench.chunk(30)
    running.publish(second)
    running.redis.flushdb()
    keys = first + second
    running.finished(keys, 40)

    def all_there() -> bool:
        assert {each["id"] for each in running.bench.events()} == {f"{key}.0" for key in keys}
        return True

    eventually(all_there, 45)
    assert_one_outcome_each(running, keys)


def test_frozen_store_is_waited_for_and_seen_as_a_retry(running: Running, servers: Servers) -> None:
    if servers.mongod is None:
        pytest.skip("freezes only a MongoDB of its own")
    keys = running.bench.chunk(20)
    at = running.bench.service.clock.now()
    with Seen(running) as seen:
        os.kill(servers.mongod.pid, signal.SIGSTOP)
        try:
            running.bench.service.publish("snapshots", [[str(key)] for key in keys], at)
            retried = eventually(lambda: seen.of("task-retried"), 45)
        finally:
            os.kill(servers.mongod.pid, signal.SIGCONT)
        running.finished(keys, 40)
    assert "StoreUnavailable" in retried[0]["exception"]
    assert_one_outcome_each(running, keys)


def test_request_of_a_celery_producer_outlives_the_process_that_was_to_accept_it(
    settings: Settings, tmp_path: Path, mongo_client: pymongo.MongoClient[Any]
) -> None:
    with stack(settings, tmp_path, QUICK | {"RUN_DEADLINE": "5s"}) as running:
        contact = running.bench.contact()
        running.bench.conversation(contact, 3)
        body = {"organizationId": str(running.bench.organization), "contactId": str(contact)}
        slow = {"namespace": f"{settings.mongo_database}.snapshoterasures", "blockConnection": True}
        entered = mongo_client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})["count"]
        with failing(mongo_client, ["find"], **slow, blockTimeMS=4000):
            sent = running.app.send_task("snapshots.request", args=[body], queue="snapshots")
            mongo_client.admin.command("waitForFailPoint", "failCommand", timesEntered=entered + 1, maxTimeMS=30_000)
            kill_pool(running.worker)
        done = {"requestId": f"task:{sent.id}", "status": "completed"}
        eventually(lambda: running.database.snapshotrequests.count_documents(done) == 1, 45)


def test_request_that_meets_the_soft_time_limit_is_retried(settings: Settings, tmp_path: Path) -> None:
    env = {
        "MESSAGES_COLLECTION": "slow",
        "CREATE_SOURCE_INDEXES": "false",
        "RUN_DEADLINE": "20s",
        "RETRY_FLOOR": "0.2s",
    }
    with stack(settings, tmp_path, env) as running:
        keys = running.bench.chunk(1)
        sleepy = {"$function": {"body": "function() { sleep(4000); return true; }", "args": [], "lang": "js"}}
        running.database.create_collection("slow", viewOn="messages", pipeline=[{"$match": {"$expr": sleepy}}])
        running.app.send_task("snapshots.create", args=[[str(keys[0])]], queue="snapshots", soft_time_limit=1)
        eventually(lambda: running.bench.entry(keys[0]).get("attempts"), 30)
        running.database.command("collMod", "slow", viewOn="messages", pipeline=[])
        (entry,) = running.finished(keys)
    assert (entry["status"], entry["lastError"]["code"]) == ("completed", "deadline_exceeded")


def test_request_that_kills_its_worker_fails_as_worker_lost_and_its_neighbours_complete(
    settings: Settings, tmp_path: Path, mongo_client: pymongo.MongoClient[Any]
) -> None:
    """Its messages take a while to read, and each time that they are read, the test kills the process."""
    env = {"WORKER_LOST_AFTER": "3", "MESSAGES_COLLECTION": "slow", "CREATE_SOURCE_INDEXES": "false"}
    with stack(settings, tmp_path, QUICK | env) as running:
        keys = running.bench.chunk(4)
        poison = running.bench.entry(keys[2])
        body = f"function(id) {{ if (id.str == '{poison['conversationId']}') sleep(300); return true; }}"
        sleepy = {"$function": {"body": body, "args": ["$conversationId"], "lang": "js"}}
        running.database.create_collection("slow", viewOn="messages", pipeline=[{"$match": {"$expr": sleepy}}])
        running.publish(keys, "snapshots.bulk", 4)
        reading = {"appName": "training-snapshots", "active": True, "command.aggregate": "slow"}

        def poisoned() -> bool:
            found = mongo_client.admin.aggregate(
                [{"$currentOp": {}}, {"$match": {**reading, "microsecs_running": {"$gt": 150_000}}}]
            )
            return bool(list(found))

        def kill_whenever_poisoned() -> bool:
            if poisoned():
                kill_pool(running.worker)
            return bool(running.bench.entry(poison["_id"])["status"] != "accepted")

        eventually(kill_whenever_poisoned, 60, 0.02)
        entries = {each["_id"]: each for each in running.finished(keys)}
        snapshots = running.bench.snapshots()
    lost = entries.pop(poison["_id"])
    assert lost["error"]["code"] == "worker_lost"
    assert lost["error"]["details"] == {"deliveries": 3}
    assert {each["status"] for each in entries.values()} == {"completed"}
    assert set(snapshots) == set(entries)
