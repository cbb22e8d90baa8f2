"""An organization's policy redacts every snapshot before it is stored, whatever asks for it."""

import hashlib
import json
from typing import Any

import bson
import pytest
from bson import ObjectId
from click.testing import CliRunner

from support.ledger import START, Bench
from worker.cli.redacting import redact
from worker.closings.policies import Policies, policies_of
from worker.runs.run import Run

CONTACT = {"firstName": "Anna", "lastName": "Schmidt", "phoneNumber": "+49 170 1234567", "email": "anna@x.de"}
TEXTS = ["Hi, Anna here, anna@x.de", "Call Joe at 0170 1234567 or joe@y.de", "Order 4829103847"]
CLEAN = ["Hi, [NAME_1] here, [EMAIL_1]", "Call [NAME_2] at [PHONE_1] or [EMAIL_2]", "Order 4829103847"]
KINDS = ["email", "phone", "name"]


def request(bench: Bench, **body: Any) -> ObjectId:
    """Accepts a request for a conversation whose agent is called Joe."""
    agent = {"_id": ObjectId(), "organizationId": bench.organization, "firstName": "Joe", "lastName": "Doe"}
    bench.database.users.insert_one(agent)
    contact = bench.contact(**CONTACT)
    conversation = bench.conversation(contact, 0, resolvedBy=agent["_id"])
    bench.database.messages.insert_many(
        bench.message(number, content=text, contactId=contact, conversationId=conversation)
        for number, text in enumerate(TEXTS)
    )
    (key,) = bench.accepted(bench.asked(contact, conversationId=conversation, **body))
    return key


def policy(bench: Bench, **fields: Any) -> None:
    policies_of(bench.connections).set(bench.organization, fields)


def everything(bench: Bench) -> str:
    """Returns the service's own collections as text."""
    names = bench.settings
    own = (names.requests_collection, names.snapshots_collection)
    return "".join(str(list(bench.database[name].find())) for name in own)


def test_snapshot_ledger_and_event_hold_no_personal_data(bench: Bench) -> None:
    policy(bench, redact=KINDS, redactRegions=["DE"])
    plain = bench.accepted(bench.asked(bench.contact(), conversationId=None))
    key = request(bench, notes="Ask anna@x.de", tags=["vip", "joe@y.de"], quality="good")
    assert Run(bench.service)([key, *plain]).completed == 1
    (stored,) = bench.database.trainingsnapshots.find()
    assert [each["content"] for each in stored["messages"]] == CLEAN
    assert (stored["notes"], stored["tags"]) == ("Ask [EMAIL_1]", ["vip", "[EMAIL_2]"])
    assert [stored[f"customer{name}"] for name in ("Name", "Phone", "Email")] == ["[NAME_1]", "[PHONE_1]", "[EMAIL_1]"]
    assert stored["redaction"] == {"policy": 1, "counts": {"email": 5, "phone": 2, "name": 3}}
    assert stored["contentHash"] == hashlib.sha256(bson.encode(dict(enumerate_(stored["messages"])))).hexdigest()
    (event,) = [each for each in bench.events() if each["type"].endswith("completed")]
    assert (event["data"]["redaction"], event["data"]["tags"]) == (stored["redaction"], ["vip", "[EMAIL_2]"])
    text = everything(bench) + json.dumps(event)
    assert not [each for each in ("Anna", "Schmidt", "Joe", "x.de", "y.de", "1234567") if each in text]


def enumerate_(messages: list[dict[str, Any]]) -> list[tuple[str, Any]]:
    return [(str(place), message) for place, message in enumerate(messages)]


def test_agent_is_redacted_beside_a_contact_with_very_many_conversations(bench: Bench) -> None:
    policy(bench, redact=["name"])
    other = bench.contact()
    bench.conversation(other)
    resolved = {"organizationId": bench.organization, "contactId": other, "resolvedBy": ObjectId()}
    bench.database.conversations.insert_many([{**resolved, "_id": ObjectId()} for _ in range(1100)])
    keys = [*bench.accepted(bench.asked(other)), request(bench)]
    assert Run(bench.service)(keys).completed == 2
    assert "Joe" not in everything(bench)


def test_snapshot_without_a_policy_has_no_trace_of_redaction(bench: Bench) -> None:
    key = request(bench, notes="Ask anna@x.de")
    assert Run(bench.service)([key]).completed == 1
    (stored,) = bench.database.trainingsnapshots.find()
    assert "redaction" not in stored
    assert "redaction" not in bench.entries([key])[0]
    assert [each["content"] for each in stored["messages"]] == TEXTS


def test_version_grows_with_each_change_of_what_is_redacted(bench: Bench) -> None:
    policies = Policies(bench.connections)
    changes: list[tuple[dict[str, Any], list[str]]] = [
        ({"redact": ["email"]}, []),
        ({"enabled": False}, []),
        ({"redactRegions": ["DE"]}, []),
        ({}, ["redact"]),
    ]
    versions = [policies.set(bench.organization, *change).redact_version for change in changes]
    assert versions == [1, 1, 2, 3]


def test_policy_that_cannot_be_read_postpones_the_request(bench: Bench) -> None:
    key = request(bench)
    bench.database.snapshotpolicies.insert_one({"organizationId": bench.organization, "redact": ["emial"]})
    outcome = Run(bench.service)([key])
    assert (outcome.completed, outcome.failed) == (0, 0)
    assert bench.entries([key])[0]["lastError"]["code"] == "policy_unreadable"
    assert bench.database.trainingsnapshots.count_documents({}) == 0


def test_invalid_policy_of_an_organization_delays_no_request_of_another(bench: Bench) -> None:
    other = bench.another()
    other.organization = ObjectId()
    try:
        mine, theirs = bench.chunk(2), other.chunk(2)
    finally:
        other.connections.close()
    bench.database.snapshotpolicies.insert_one({"organizationId": bench.organization, "redact": ["emial"]})
    outcome = Run(bench.service)([*mine, *theirs])
    assert (outcome.completed, outcome.failed) == (2, 0)
    assert set(bench.snapshots()) == set(theirs)
    assert [(each["attempts"], each["lastError"]["code"]) for each in bench.entries(mine)] == [
        (1, "policy_unreadable")
    ] * 2


def test_text_that_is_not_redacted_stays_the_same_to_the_byte(bench: Bench) -> None:
    plain = request(bench)
    Run(bench.service)([plain])
    policy(bench, redact=["iban"])
    bench.database.messages.update_many({}, {"$set": {"createdAt": START}})
    clean = request(bench)
    policies_of(bench.connections)._cache.clear()
    Run(bench.service)([clean])
    first, second = (bench.database.trainingsnapshots.find_one({"_id": key}) for key in (plain, clean))
    assert [each["content"] for each in first["messages"]] == [each["content"] for each in second["messages"]]
    assert second["redaction"] == {"policy": 1, "counts": {}}


def test_dry_run_shows_what_a_policy_would_change(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    policy(bench, redact=KINDS, redactRegions=["DE"])
    request(bench)
    monkeypatch.setenv("SNAPSHOTS_MONGO_URL", bench.settings.mongo_url)
    monkeypatch.setenv("SNAPSHOTS_MONGO_DATABASE", bench.settings.mongo_database)
    conversation = bench.database.conversations.find_one()["_id"]
    asked = ["--dry-run", "--organization", str(bench.organization), "--conversation", str(conversation)]
    shown = CliRunner().invoke(redact, asked)
    assert shown.exit_code == 0, shown.output
    assert f"- {TEXTS[1]}\n+ {CLEAN[1]}\n" in shown.output
    assert bench.database.trainingsnapshots.count_documents({}) == 0


def test_dry_run_shows_control_characters_instead_of_sending_them_to_the_terminal() -> None:
    shown = CliRunner().invoke(redact, ["--dry-run", "--text", "\x1b[2J a@example.com\r\x9b"])
    assert "- \u241b[2J a@example.com\u240d\ufffd\n+ \u241b[2J [EMAIL_1]\u240d\ufffd\n" in shown.output
