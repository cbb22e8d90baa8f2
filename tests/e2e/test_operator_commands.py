"""`snapshots requests`, `show`, `delete`, `events`, `status`, as processes."""

import json
import os
import signal
import subprocess
from typing import Any

import pytest
from bson import ObjectId

from support.commands import CHECKOUT, COMMAND, run, run_at_once
from support.contacts import Contact, contact_with
from support.pipeline import accept, run_accepted
from support.waiting import allowed
from worker.service import Service
from worker.stores.queries import request_by_key

Env = dict[str, str]


@pytest.fixture
def contact(service: Service) -> Contact:
    """One request completed, two failed, one in flight."""
    made = contact_with(service.connections.database, 2, 0, 0)
    for number, conversation in enumerate(made.conversations):
        accept(service, made.organization, made.id, f"r{number}", conversationId=conversation, notes="secret")
    run_accepted(service)
    accept(service, made.organization, made.id, "[waits]")
    return made


def id_of(service: Service, contact: Contact, request_id: str) -> ObjectId:
    key: ObjectId = request_by_key(service.connections, contact.organization, request_id)["_id"]
    return key


def test_help_imports_no_driver_and_every_command_has_an_example(env: Env) -> None:
    ended = run(env, "--help")
    assert ended.code == 0
    imported = (
        "import sys; import worker.cli; sys.exit(bool({'celery', 'pymongo', 'rich', 'redis'} & set(sys.modules)))"
    )
    assert subprocess.run([COMMAND[0], "-c", imported], cwd=CHECKOUT, check=False).returncode == 0
    names = [line.split()[0] for line in ended.stdout.split("Commands:\n")[1].splitlines()]
    orders = [[name, "--help"] for name in names]
    orders += [["requests", name, "--help"] for name in ("list", "show", "redrive")]
    for order, each in zip(orders, run_at_once(env, orders), strict=True):
        assert each.code == 0, each
        assert "Example:" in each.stdout, order


def test_command_that_publishes_nothing_does_not_import_celery(env: Env, service: Service) -> None:
    """The import takes a fifth of a second."""
    code = (
        "import sys; from worker.cli import main; code = main(['status'], standalone_mode=False);"
        "print(code, sorted({'celery', 'kombu', 'pymongo'} & set(sys.modules)))"
    )
    ended = subprocess.run(
        [COMMAND[0], "-c", code], cwd=CHECKOUT, env={**os.environ, **env}, capture_output=True, text=True, check=False
    )
    assert ended.stdout.splitlines()[-1] == "0 ['pymongo']", ended


def test_list_shows_requests_newest_first_without_notes(env: Env, service: Service, contact: Contact) -> None:
    listed, page, table, wrong = run_at_once(
        env,
        [
            ["requests", "list", "--organization", contact.organization, "--json"],
            ["requests", "list", "--code", "empty_conversation", "--since", "1h", "--limit", "1", "--json"],
            ["requests", "list"],
            ["requests", "list", "--since", "yesterday"],
        ],
    )
    assert listed.json["requests"][0]["requestId"] == "[waits]"
    assert len(listed.json["requests"]) == 4
    assert "secret" not in listed.stdout + table.stdout
    assert "[waits]" in table.stdout
    assert "accepted (UTC)" in table.stdout
    assert page.json["requests"][0]["error"]["code"] == "empty_conversation"
    behind = run(env, "requests", "list", "--code", "empty_conversation", "--after", page.json["next"], "--json")
    assert [each["status"] for each in behind.json["requests"]] == ["failed"]
    assert behind.json["next"] is None
    assert wrong.code == 2
    assert "'--since'" in wrong.stderr


def test_show_gives_the_document_as_json(env: Env, service: Service, contact: Contact) -> None:
    made, failed, waits = (id_of(service, contact, name) for name in ("r0", "r1", "[waits]"))
    whole, line, other, entry, of_failed, of_waiting = run_at_once(
        env,
        [
            ["show", made],
            ["show", made, "--json", "--organization", contact.organization],
            ["show", made, "--organization", ObjectId(), "--json"],
            ["requests", "show", "--organization", contact.organization, "--request-id", "r0"],
            ["show", failed, "--json"],
            ["show", waits, "--json"],
        ],
    )
    document = whole.json
    assert document == line.json
    assert line.stdout.count("\n") == 1
    assert document["_id"] == str(made)
    assert document["conversationStartDate"] == "2026-05-13T13:14:57.199Z"
    assert [each["content"] for each in document["messages"]] == ["Grüße 0 😀", "Grüße 1 😀"]
    assert entry.json["snapshotId"] == str(made)
    assert entry.json["bodyHash"]
    assert [each.code for each in (whole, line, other, entry, of_failed, of_waiting)] == [0, 0, 1, 0, 1, 1]
    assert other.json["error"] == {"code": "not_found", "message": "There is no such snapshot.", "details": {}}
    assert of_failed.json["error"]["details"] == {"error": "empty_conversation"}
    assert of_waiting.json["error"]["details"] == {"status": "accepted"}


def test_redrive_counts_then_accepts_again(env: Env, service: Service, contact: Contact) -> None:
    given = ["--organization", str(contact.organization), "--code", "empty_conversation"]
    counted = run(env, "requests", "redrive", *given, "--dry-run", "--json")
    assert counted.json == {"matching": 2, "redriven": 0, "leftOut": 0, "dryRun": True}
    failed, done = id_of(service, contact, "r1"), id_of(service, contact, "r0")
    by_id = run(env, "requests", "redrive", failed, done, "--json")
    assert (by_id.code, by_id.json) == (1, {"matching": 1, "redriven": 1, "leftOut": 1, "dryRun": False})
    by_filter = run(env, "requests", "redrive", *given, "--since", "1h")
    assert (by_filter.code, by_filter.stdout) == (0, "redriven 1\n")
    assert sorted(each["round"] for each in service.ledger.collection.find()) == [0, 0, 1, 1]


def test_redrive_of_everything_has_to_be_asked_for(env: Env, service: Service, contact: Contact) -> None:
    orders = [
        [],
        ["--status", "completed"],
        ["--status", "nonsense"],
        [str(ObjectId()), "--code", "x"],
        ["--code", "x", "--since", "99999999d"],
    ]
    assert {each.code for each in run_at_once(env, [["requests", "redrive", *each] for each in orders])} == {2}
    # None has failed since now: `0s` is a moment, not nothing.
    since_now = run(env, "requests", "redrive", "--status", "failed", "--since", "0s", "--json")
    assert since_now.json["matching"] == 0
    assert service.ledger.collection.count_documents({"round": 1}) == 0


def test_arguments_that_are_no_text_are_wrong_use(env: Env) -> None:
    """The shell passes any bytes on, and Python has them as lone surrogates."""
    ids = ["--organization", str(ObjectId()), "--user", str(ObjectId())]
    orders = [
        ["requests", "list", "--code", "\udcff"],
        ["requests", "redrive", "--code", "\udcff"],
        ["requests", "show", *ids[:2], "--request-id", "\udcff"],
        ["keys", "create", *ids, "--name", "caf\udce9"],
    ]
    for ended in run_at_once(env, [[*each, "--json"] for each in orders]):
        assert (ended.code, ended.json["error"]["code"]) == (2, "wrong_use")
        assert "lone surrogate" in ended.json["error"]["message"]


def test_deleted_snapshot_is_gone_and_its_request_says_so(env: Env, service: Service, contact: Contact) -> None:
    made = id_of(service, contact, "r0")
    assert run(env, "delete", made, "--organization", ObjectId(), "--json").json["error"]["code"] == "not_found"
    assert run(env, "delete", made, "--organization", contact.organization).code == 0
    shown, repeated, counted = run_at_once(
        env,
        [
            ["show", made, "--json"],
            [
                *("request", "--organization", contact.organization, "--contact", contact.id, "--request-id", "r0"),
                *("--conversation", contact.conversations[0], "--notes", "secret", "--json"),
            ],
            ["status", "--json"],
        ],
    )
    assert (shown.code, shown.json["error"]["code"]) == (1, "deleted")
    assert (repeated.code, repeated.json["error"]["code"]) == (1, "deleted")
    (mine,) = counted.json["organizations"]
    assert (mine["deleted"], mine["snapshots"], mine["holds"]) == (1, 0, True)


def test_status_shows_counts_queues_and_what_waits(env: Env, service: Service, contact: Contact) -> None:
    ended, table = run_at_once(env, [["status", "--json"], ["status", "--organization", contact.organization]])
    assert (ended.code, table.code) == (0, 0)
    said = ended.json
    assert said["holds"] is True
    assert said["organizations"][0] == {
        "organizationId": str(contact.organization),
        "accepted": 4,
        "completed": 1,
        "failed": 2,
        "inFlight": 1,
        "deleted": 0,
        "unchanged": 0,
        "snapshots": 1,
        "holds": True,
    }
    queues = ("snapshots", "snapshots.bulk", "snapshots.maintenance", "snapshots.exports")
    assert said["queues"] == dict.fromkeys(queues, 0)
    assert 0 <= said["oldestRequestSeconds"] < 60
    assert str(contact.organization) in table.stdout


def test_status_ends_with_1_if_the_identity_is_broken_or_redis_is_away_and_with_2_if_it_is_wrong(
    env: Env, service: Service, contact: Contact
) -> None:
    away = run({**env, "SNAPSHOTS_REDIS_URL": "redis://127.0.0.1:1/0"}, "status", "--json")
    assert (away.code, away.json["error"]["code"], away.json["holds"]) == (1, "broker_unavailable", True)
    wrong = run(
        {**env, "SNAPSHOTS_REDIS_URL": f"{env['SNAPSHOTS_REDIS_URL'].rpartition('/')[0]}/99999"}, "status", "--json"
    )
    assert (wrong.code, wrong.json["error"]["code"]) == (2, "unusable_server")
    service.snapshots.collection.delete_many({})
    broken = run(env, "status", "--json")
    assert (broken.code, broken.json["holds"]) == (1, False)


def test_oldest_message_has_its_age(env: Env, contact: Contact) -> None:
    order = ["request", "--organization", contact.organization, "--contact", contact.id]
    assert run(env, *order).code == 0
    said = run(env, "status", "--json").json
    assert said["queues"]["snapshots"] == 1
    assert 0 <= said["oldestMessageSeconds"]["snapshots"] < 60


def test_events_are_cloudevents_one_a_line(env: Env, service: Service, contact: Contact) -> None:
    every, first, lines, wrong = run_at_once(
        env,
        [["events", "--json"], ["events", "--count", "1", "--json"], ["events"], ["events", "--after", "yesterday"]],
    )
    said = [json.loads(line) for line in every.stdout.splitlines()]
    assert len({each["id"] for each in said}) == len(said) == 3
    assert [each["type"] for each in said].count("training.snapshot.failed") == 2
    assert lines.stdout.count("\n") == 3
    behind = run(env, "events", "--json", "--after", first.json["streamid"])
    assert [json.loads(line) for line in behind.stdout.splitlines()] == said[1:]
    assert wrong.code == 2


def test_entries_of_others_are_neither_shown_nor_counted(env: Env, service: Service, contact: Contact) -> None:
    stream = service.settings.events_stream
    redis: Any = service.connections.redis
    ((_, mine),) = redis.xrange(stream, count=1)
    redis.delete(stream)
    for fields in ({"x": "y"}, {"event": "{"}, {"event": "[1]"}, {"event": "{}"}, mine):
        redis.xadd(stream, fields)
    one, every = run_at_once(env, [["events", "--count", "1", "--json"], ["events"]])
    assert one.json["id"] == json.loads(mine[b"event"])["id"]
    assert (every.code, every.stdout.count("\n")) == (0, 1)


def test_followed_events_come_as_they_are_emitted_and_ctrl_c_ends_with_130(
    env: Env, service: Service, contact: Contact
) -> None:
    with subprocess.Popen(
        [*COMMAND, "events", "--follow", "--json"],
        env=env,
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            seen = [json.loads(process.stdout.readline())["data"]["requestId"] for _ in range(3)]
            run_accepted(service)
            last = json.loads(process.stdout.readline())
            assert sorted([*seen, last["data"]["requestId"]]) == ["[waits]", "r0", "r1", "r2"]
            process.send_signal(signal.SIGINT)
            assert process.wait(allowed(10)) == 130
            assert process.stderr.read() == f"Interrupted. Continue with --after {last['streamid']}.\n"
        finally:
            process.kill()
