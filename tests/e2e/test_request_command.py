"""`snapshots request`, as processes."""

import itertools
from typing import Any

from bson import ObjectId
from pymongo.database import Database

from support.commands import run, run_at_once
from support.contacts import Contact, contact_with
from support.pipeline import accept, run_accepted
from worker.service import Service

Env = dict[str, str]


def of(contact: Contact) -> list[str]:
    return ["--organization", str(contact.organization), "--contact", str(contact.id)]


def test_fifty_producers_of_one_request_id_get_fifty_equal_answers(env: Env, own: Database[dict[str, Any]]) -> None:
    contact = contact_with(own, 2)
    order = ["request", *of(contact), "--request-id", "order-17", "--tag", "x", "--json"]
    ended = run_at_once(env, [order] * 50)
    assert {(each.code, each.stderr) for each in ended} == {(0, "")}
    (entry,) = own.snapshotrequests.find()
    said = {"id": str(entry["_id"]), "organizationId": str(contact.organization), "requestId": "order-17"}
    assert {each.stdout for each in ended} == {ended[0].stdout}
    assert ended[0].json == said


def test_what_the_request_alone_shows_is_wrong_use_and_names_the_option(
    env: Env, own: Database[dict[str, Any]]
) -> None:
    contact = contact_with(own, 2)
    message = str(ObjectId())
    cases: list[tuple[list[str], str]] = [
        (["--organization", "x", "--contact", str(contact.id)], "'--organization'"),
        (["--organization", str(contact.organization), "--contact", 24 * "g"], "'--contact'"),
        (["--organization", str(contact.organization)], "'--contact'"),
        ([*of(contact), "--conversation", "\x00"], "'--conversation'"),
        ([*of(contact), "--message", 12 * "m"], "'--message'"),
        ([*of(contact), "--message", message, "--message", message], "--message should name each message once"),
        (
            [*of(contact), *itertools.chain.from_iterable([["--tag", "t"]] * 10_001)],
            "--tag should have at most 50 tags",
        ),
        ([*of(contact), "--tag", 101 * "t"], "--tag: tag 0 should have at most 100 characters"),
        ([*of(contact), "--notes", 1_000_000 * "n"], "--notes should have at most 10000 characters, but has 1000000"),
        ([*of(contact), "--notes", "a\x00b"], "--notes should not contain control characters, but contains U+0000"),
        (
            [*of(contact), "--quality", "a\x1b[31m"],
            "--quality should not contain control characters, but contains U+001B",
        ),
        ([*of(contact), "--category", "\udcff"], "--category should be valid Unicode, but contains a lone surrogate"),
        (
            [*of(contact), "--request-id", "all:1"],
            "--request-id should not begin with stream:, task:, resolved:, all:",
        ),
        ([*of(contact), "--request-id", ""], "--request-id should have 1 to 200 characters, but has 0"),
        ([*of(contact), "--timeout", "-1"], "'--timeout'"),
        ([*of(contact), "--chunk", "5"], "--chunk needs --all"),
        (["--organization", str(contact.organization), "--all", "--chunk", "-1"], "-1 is not in the range 1<=x<=500"),
        (["--organization", str(contact.organization), "--all", "--chunk", "501"], "501 is not in the range 1<=x<=500"),
        (["--organization", str(contact.organization), "--all", "--tag", ""], "--tag: tag 0 should not be blank"),
        ([*of(contact), "--all", "--wait"], "--contact, --wait cannot be combined with --all"),
    ]
    for (arguments, fault), ended in zip(
        cases, run_at_once(env, [["request", *each] for each, _ in cases]), strict=True
    ):
        assert (ended.code, ended.stdout) == (2, ""), ended
        assert fault in ended.stderr
        assert "Traceback" not in ended.stderr
        assert len(ended.stderr) < 500, arguments
    assert own.snapshotrequests.count_documents({}) == 0


def test_an_unknown_contact_or_conversation_is_refused_and_leaves_nothing(
    env: Env, own: Database[dict[str, Any]]
) -> None:
    mine, other = contact_with(own, 1), contact_with(own, 1)
    organization = ["--organization", str(mine.organization)]
    cases = [
        ([*organization, "--contact", str(ObjectId())], "contact_not_found"),
        ([*organization, "--contact", str(other.id)], "contact_not_found"),
        (["--organization", str(ObjectId()), "--contact", str(mine.id)], "contact_not_found"),
        ([*of(mine), "--conversation", str(ObjectId())], "conversation_not_found"),
        ([*of(mine), "--conversation", str(other.conversations[0])], "conversation_not_found"),
        (["--organization", str(ObjectId()), "--all"], "not_found"),
    ]
    for (_, code), ended in zip(
        cases, run_at_once(env, [["request", *each, "--json"] for each, _ in cases]), strict=True
    ):
        assert ended.code == 1
        assert ended.json["error"]["code"] == code
        assert ended.stderr.count("\n") == 1
        assert code in ended.stderr
    assert own.snapshotrequests.count_documents({}) == 0


def test_errors_are_json_on_standard_output_too(env: Env, own: Database[dict[str, Any]]) -> None:
    contact = contact_with(own, 1)
    faulty, wrong = run_at_once(
        env, [["request", *of(contact), "--tag", " ", "--json"], ["request", *of(contact), "--nope", "--json"]]
    )
    assert (faulty.code, wrong.code) == (2, 2)
    assert faulty.json["error"]["details"] == {"errors": [{"field": "tags", "message": "tag 0 should not be blank"}]}
    assert wrong.json["error"]["code"] == "wrong_use"
    assert "--nope" in wrong.stderr


def test_a_request_id_with_another_body_is_a_conflict(env: Env, own: Database[dict[str, Any]]) -> None:
    contact = contact_with(own, 1)
    assert run(env, "request", *of(contact), "--request-id", "r").code == 0
    ended = run(env, "request", *of(contact), "--request-id", "r", "--notes", "other", "--json")
    assert (ended.code, ended.json["error"]["code"]) == (1, "request_id_conflict")


def test_a_known_request_id_gets_its_answer_also_after_the_contact_went(
    env: Env, own: Database[dict[str, Any]], service: Service
) -> None:
    contact = contact_with(own, 1)
    first = accept(service, contact.organization, contact.id, "r")
    own.contacts.delete_many({})
    ended = run(env, "request", *of(contact), "--request-id", "r", "--json")
    assert (ended.code, ended.json["id"]) == (0, str(first.id))


def test_waiting_ends_with_the_outcome(env: Env, own: Database[dict[str, Any]], service: Service) -> None:
    good, empty = contact_with(own, 2), contact_with(own, 0)
    for contact, request_id in ((good, "good"), (empty, "empty")):
        accept(service, contact.organization, contact.id, request_id)
    run_accepted(service)
    late = contact_with(own, 1)
    completed, failed, timed_out = run_at_once(
        env,
        [
            ["request", *of(good), "--request-id", "good", "--wait", "--json"],
            ["request", *of(empty), "--request-id", "empty", "--wait", "--json"],
            ["request", *of(late), "--request-id", "late", "--wait", "--timeout", "0.3", "--json"],
        ],
    )
    assert (completed.code, failed.code, timed_out.code) == (0, 1, 1)
    assert (completed.json["status"], completed.json["snapshotId"]) == ("completed", completed.json["id"])
    assert (failed.json["status"], failed.json["error"]["code"]) == ("failed", "empty_conversation")
    assert timed_out.json["status"] == "accepted"
    said = run(env, "request", *of(empty), "--request-id", "empty", "--wait")
    assert said.code == 1
    assert "empty_conversation" in said.stderr


def test_a_request_is_durable_while_redis_is_down(env: Env, own: Database[dict[str, Any]]) -> None:
    contact = contact_with(own, 1)
    env["SNAPSHOTS_REDIS_URL"] = "redis://:hunter2@127.0.0.1:1/0"
    ended = run(env, "request", *of(contact), "--json", timeout=20)
    assert ended.code == 0
    assert own.snapshotrequests.count_documents({"_id": ObjectId(ended.json["id"])}) == 1
    assert "enqueue_failed" in ended.stderr
    assert "hunter2" not in ended.stderr


def test_a_request_is_not_accepted_while_mongodb_is_down(env: Env) -> None:
    env["SNAPSHOTS_MONGO_URL"] = "mongodb://someone:hunter2@127.0.0.1:1/?replicaSet=rs0"
    ended = run(env, "request", "--organization", ObjectId(), "--contact", ObjectId(), "--json")
    assert (ended.code, ended.json["error"]["code"]) == (1, "store_unavailable")
    assert "hunter2" not in ended.stdout + ended.stderr


def test_an_invalid_setting_is_wrong_use_and_is_named(env: Env) -> None:
    env["SNAPSHOTS_CHUNK_SIZE"] = "many"
    ended = run(env, "status")
    assert ended.code == 2
    assert "SNAPSHOTS_CHUNK_SIZE: should be a valid integer" in ended.stderr
    assert "Traceback" not in ended.stderr
