"""`snapshots backfill` and `snapshots request --all`, and both ways with a real worker."""

import sys
from pathlib import Path
from typing import Any

import redis
from pymongo.database import Database

from support.commands import run
from support.contacts import Contact, contact_with
from support.pipeline import accept, run_accepted
from support.waiting import eventually
from worker.local.processes import Child
from worker.service import Service
from worker.settings import Settings

Env = dict[str, str]


def of(contact: Contact) -> list[str]:
    return ["--organization", str(contact.organization), "--contact", str(contact.id)]


def test_all_asks_once_for_each_conversation_and_waits_for_the_outcomes(
    env: Env, own: Database[dict[str, Any]], service: Service
) -> None:
    contact = contact_with(own, *[1] * 23, 0, 0)
    contact_with(own, 1)  # another organization's
    as_text = {"organizationId": str(contact.organization), "contactId": str(contact.id)}
    own.conversations.update_one({"_id": contact.conversations[0]}, {"$set": as_text})
    order = ["request", "--organization", str(contact.organization), "--all", "--chunk", "10", "--tag", "x", "--json"]
    waiting = run(env, *order, "--timeout", "0.2")
    assert (waiting.code, waiting.json["accepted"], waiting.json["inFlight"]) == (1, 25, 25)
    run_accepted(service)
    ended = run(env, *order)
    assert ended.code == 0
    said = ended.json
    assert said.pop("seconds") > 0
    assert said.pop("rate") > 0
    assert (said.pop("id"), said.pop("status")) == (waiting.json["id"], "completed")
    assert said.pop("asked") == {"tags": ["x"]}
    assert all(said.pop(name) for name in ("acceptedAt", "startedAt", "finishedAt"))
    assert said == {
        "organizationId": str(contact.organization),
        "conversations": 25,
        "requests": 25,
        "accepted": 25,
        "completed": 23,
        "failed": 2,
        "inFlight": 0,
        "deleted": 0,
        "failures": {"empty_conversation": 2},
        "refused": {},
    }
    assert {each["requestId"] for each in own.snapshotrequests.find()} == {f"all:{each}" for each in contact.messages}
    assert own.snapshotrequests.distinct("trigger") == ["backfill"]
    assert own.snapshotrequests.distinct("queue") == ["snapshots.bulk"]


def test_all_leaves_out_what_cannot_be_asked_for_and_says_so(
    env: Env, own: Database[dict[str, Any]], service: Service
) -> None:
    contact = contact_with(own, 1, 1)
    own.conversations.insert_one({"organizationId": contact.organization})
    changed, _ = contact.conversations
    accept(service, contact.organization, contact.id, "before", conversationId=changed)
    own.snapshotrequests.update_one({}, {"$set": {"requestId": f"all:{changed}", "tags": ["other"], "bodyHash": "x"}})
    ended = run(env, "request", "--organization", contact.organization, "--all", "--timeout", "0.1", "--json")
    assert ended.code == 1
    assert ended.json["refused"] == {"invalid_request": 1, "request_id_conflict": 1}
    assert ended.json["requests"] == 1


def test_all_does_not_make_deleted_snapshots_again_and_says_so(
    env: Env, own: Database[dict[str, Any]], service: Service
) -> None:
    contact = contact_with(own, 1, 1)
    order = ["request", "--organization", str(contact.organization), "--all"]
    run(env, *order, "--timeout", "0.1")
    run_accepted(service)
    assert run(env, *order).code == 0
    snapshot = own.trainingsnapshots.find_one({}, {"_id": 1})
    assert snapshot is not None
    service.delete(contact.organization, snapshot["_id"])
    ended, shown = run(env, *order, "--json"), run(env, *order)
    assert (ended.code, shown.code) == (0, 0)
    assert {name: ended.json[name] for name in ("requests", "completed", "deleted", "refused")} == {
        "requests": 1,
        "completed": 1,
        "deleted": 1,
        "refused": {},
    }
    assert "skipped 1: their snapshots were deleted" in shown.stdout


def test_a_worker_does_what_the_commands_ask_for(env: Env, own: Database[dict[str, Any]], tmp_path: Path) -> None:
    contact = contact_with(own, 2, 1, 0)
    argv = [sys.executable, "-m", "celery", "-A", "worker", "worker", "-P", "prefork", "-c", "1", "-l", "INFO"]
    worker = Child("worker", argv, env, tmp_path / "worker.log")
    worker.ready = lambda: " ready." in worker.output()
    try:
        worker.start()
        worker.wait_until_ready()
        one = run(env, "request", *of(contact), "--conversation", contact.conversations[0], "--wait", "--json")
        every = run(env, "request", "--organization", contact.organization, "--all", "--json")
        counted = run(env, "status", "--json")
    finally:
        worker.stop()
    assert (one.code, one.json["status"]) == (0, "completed")
    assert (every.code, every.json["completed"], every.json["failures"]) == (0, 2, {"empty_conversation": 1})
    assert (counted.code, counted.json["organizations"][0]["completed"]) == (0, 3)
    assert "Grüße" not in worker.output()


def test_messages_of_the_bulk_queue_carry_ids_in_chunks(
    env: Env, own: Database[dict[str, Any]], settings: Settings
) -> None:
    contact = contact_with(own, *[1] * 25)
    run(env, "request", "--organization", contact.organization, "--all", "--chunk", "10", "--timeout", "0")
    with redis.Redis.from_url(settings.redis_url) as client:
        eventually(lambda: client.llen("snapshots.bulk") == 3)


def test_backfill_is_counted_listed_shown_and_cancelled(
    env: Env, own: Database[dict[str, Any]], service: Service
) -> None:
    contact = contact_with(own, 1, 2, 3)
    order = ("backfill", "--organization", contact.organization)
    dry = run(env, *order, "--min-messages", "2", "--dry-run", "--json")
    assert (dry.code, dry.json["conversations"], own.snapshotrequests.count_documents({})) == (0, 2, 0)
    begun = run(env, *order, "--min-messages", "2", "--quality", "good", "--timeout", "0", "--json")
    assert (begun.code, begun.json["requests"], begun.json["status"]) == (1, 2, "running")
    refused = run(env, *order, "--json")
    assert (refused.code, refused.json["error"]["code"]) == (1, "backfill_in_progress")
    shown = run(env, "backfill", "show", begun.json["id"], "--json")
    assert shown.json["asked"] == {"minMessages": 2, "quality": "good"}
    assert run(env, "backfill", "cancel", begun.json["id"], "--json").json["status"] == "cancelled"
    assert run(env, "backfill", "cancel", begun.json["id"]).code == 1
    listed = run(env, "backfill", "list", "--json").json["backfills"]
    assert [(each["id"], each["status"]) for each in listed] == [(begun.json["id"], "cancelled")]
    run_accepted(service)
    assert own.trainingsnapshots.count_documents({"quality": "good"}) == 2
    assert run(env, "backfill").code == 2
