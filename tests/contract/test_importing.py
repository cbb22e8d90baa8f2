"""The import against a real MongoDB."""

import json
import os
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId
from pymongo.database import Database

from support.imported import assert_conversations_are_whole, counts
from support.neutral import START, conversation, write
from worker.importing import Report, import_files
from worker.settings import Settings
from worker.stores.connections import Connections

ORGANIZATION = ObjectId("6a0000000000000000000001")
SAMPLES = Path(str(files("worker.local") / "samples" / "conversations.jsonl"))


@pytest.fixture
def connections(settings: Settings) -> Iterator[Connections]:
    connections = Connections(settings)
    yield connections
    connections.close()


@pytest.fixture
def stored(connections: Connections) -> Database[dict[str, Any]]:
    return connections.database


def run(connections: Connections, *paths: Path, organization_id: ObjectId = ORGANIZATION) -> Report:
    return import_files(paths, organization_id, connections)


def texts(database: Database[dict[str, Any]], ref: str) -> list[str]:
    """The conversation's messages as a reader sorts them."""
    found = database.conversations.find_one({"ref": ref})
    assert found
    messages = database.messages.find({"conversationId": found["_id"]}).sort([("timestamp", 1), ("_id", 1)])
    return [each["content"] for each in messages]


def test_samples_are_stored_byte_for_byte_with_contact_and_user(
    connections: Connections, stored: Database[dict[str, Any]]
) -> None:
    report = run(connections, SAMPLES)
    assert (report.read, report.stored, report.already_there, report.refused) == (24, 24, 0, [])
    assert (report.contacts, report.messages) == (23, 161)
    assert counts(stored) == {"contacts": 23, "users": 4, "conversations": 24, "messages": 161}
    for line in SAMPLES.read_bytes().splitlines():
        source = json.loads(line)
        found = stored.conversations.find_one({"ref": source["conversation"]["ref"]})
        assert found
        assert (found["organizationId"], found["isResolved"]) == (ORGANIZATION, True)
        assert found["resolvedAt"] == found["importedResolvedAt"]
        contact = stored.contacts.find_one({"_id": found["contactId"]})
        assert contact
        assert {name: contact[name] for name in source["contact"]} == source["contact"]
        agent = stored.users.find_one({"_id": found["resolvedBy"]})
        assert agent
        assert agent["email"] == source["agent"]["email"]
        messages = list(stored.messages.find({"conversationId": found["_id"]}).sort("_id", 1))
        for given, message in zip(source["messages"], messages, strict=True):
            assert (message["organizationId"], message["contactId"]) == (ORGANIZATION, contact["_id"])
            assert {name: message[name] for name in ("content", "sender", "senderType")} == {
                name: given[name] for name in ("content", "sender", "senderType")
            }
            assert message["timestamp"].isoformat(timespec="milliseconds")[:23] + "Z" == given["timestamp"]
        if messages:
            assert found["resolvedAt"] == messages[-1]["timestamp"]


def test_importing_again_stores_nothing_twice(connections: Connections, stored: Database[dict[str, Any]]) -> None:
    run(connections, SAMPLES)
    before = counts(stored)
    report = run(connections, SAMPLES, SAMPLES)
    assert (report.read, report.stored, report.already_there, report.refused) == (48, 0, 48, [])
    assert counts(stored) == before


def test_two_organizations_share_nothing(connections: Connections, stored: Database[dict[str, Any]]) -> None:
    run(connections, SAMPLES)
    report = run(connections, SAMPLES, organization_id=ObjectId())
    assert report.stored == 24
    assert counts(stored) == {"contacts": 46, "users": 8, "conversations": 48, "messages": 322}


def test_messages_at_equal_times_keep_the_order_of_the_file(
    connections: Connections, stored: Database[dict[str, Any]], tmp_path: Path
) -> None:
    whole = conversation("equal", messages=400)
    for each in whole["messages"]:
        each["timestamp"] = START.isoformat(timespec="milliseconds")
    run(connections, write(tmp_path / "equal.jsonl.gz", [whole]))
    assert texts(stored, "equal") == [f"Hello {index}" for index in range(400)]


def test_faulty_lines_are_refused_alone_with_file_line_and_reason(
    connections: Connections, stored: Database[dict[str, Any]], tmp_path: Path
) -> None:
    faulty = conversation("faulty")
    faulty["messages"][1]["content"] = None
    path = write(tmp_path / "mixed.jsonl", [conversation("a"), "", "{broken", faulty, conversation("b")])
    report = run(connections, path, write(tmp_path / "other.jsonl", ["[]"]))
    assert (report.read, report.stored, report.already_there) == (5, 2, 0)
    assert [(Path(each.file).name, each.line) for each in report.refused] == [
        ("mixed.jsonl", 3),
        ("mixed.jsonl", 4),
        ("other.jsonl", 1),
    ]
    assert report.refused[1].reason == "messages[1].content: should be a valid string"
    assert sorted(stored.conversations.distinct("ref")) == ["a", "b"]


def test_a_truncated_file_is_stored_up_to_the_damage_and_completed_later(
    connections: Connections, stored: Database[dict[str, Any]], tmp_path: Path
) -> None:
    path = write(
        tmp_path / "all.jsonl.gz", [conversation(f"c{index}", text=os.urandom(8).hex()) for index in range(300)]
    )
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    report = run(connections, path)
    assert 0 < report.stored < 300
    assert [each.line for each in report.refused] == [report.stored + 1]
    path.write_bytes(whole)
    assert run(connections, path).stored == 300 - report.stored
    assert_conversations_are_whole(stored, messages=3)


def test_a_repeated_ref_with_other_content_is_refused_without_mixing_messages(
    connections: Connections, stored: Database[dict[str, Any]], tmp_path: Path
) -> None:
    first, other = conversation("same", messages=2, text="first"), conversation("same", messages=5, text="other")
    report = run(
        connections, write(tmp_path / "one.jsonl", [first, first, other]), write(tmp_path / "two.jsonl", [other])
    )
    assert (report.read, report.stored, report.already_there) == (4, 1, 1)
    assert [(each.line, each.reason) for each in report.refused] == [
        (3, "conversation.ref: is already stored with another contact or other messages"),
        (1, "conversation.ref: is already stored with another contact or other messages"),
    ]
    assert texts(stored, "same") == ["first 0", "first 1"]


def test_contacts_with_the_same_email_are_one(
    connections: Connections, stored: Database[dict[str, Any]], tmp_path: Path
) -> None:
    emails = ["Priya@example.com", " priya@EXAMPLE.com", "priya@example.com", None, None, None]
    phones = [None, None, None, "+12065550114", "+12065550114", None]
    lines = [
        conversation(f"c{index}", contact={"email": email, "phoneNumber": phone})
        for index, (email, phone) in enumerate(zip(emails, phones, strict=True))
    ]
    run(connections, write(tmp_path / "one.jsonl", lines[:2]))
    report = run(connections, write(tmp_path / "two.jsonl", [*lines[2:], conversation("none", contact=None)]))
    assert report.contacts == 3
    assert len(stored.conversations.distinct("contactId")) == counts(stored)["contacts"] == 4


def test_existing_contacts_and_users_of_the_platform_are_used(
    connections: Connections, stored: Database[dict[str, Any]], tmp_path: Path
) -> None:
    contact_id, user_id = ObjectId(), ObjectId()
    stored.contacts.insert_one({"_id": contact_id, "organizationId": ORGANIZATION, "email": "c1@example.com"})
    stored.contacts.insert_one({"organizationId": ObjectId(), "email": "c2@example.com"})
    stored.users.insert_one({"_id": user_id, "organizationId": ORGANIZATION, "email": "ana@agents.example.com"})
    report = run(connections, write(tmp_path / "all.jsonl", [conversation("c1"), conversation("c2")]))
    assert report.contacts == 1
    found = {each["ref"]: each for each in stored.conversations.find()}
    assert found["c1"]["contactId"] == contact_id
    assert found["c1"]["resolvedBy"] == found["c2"]["resolvedBy"] == user_id
    assert found["c2"]["contactId"] not in {contact_id, None}
    assert stored.messages.count_documents({"contactId": contact_id}) == 3


def test_a_conversation_whose_documents_mongodb_refuses_is_rejected_alone(
    connections: Connections, stored: Database[dict[str, Any]], tmp_path: Path
) -> None:
    stored.create_collection("messages", validator={"content": {"$ne": "secret 1"}})
    lines = [conversation(f"c{index}", text="secret" if index == 2 else "fine") for index in range(5)]
    report = run(connections, write(tmp_path / "all.jsonl", lines))
    assert report.stored == 4
    assert [(each.line, each.reason) for each in report.refused] == [
        (3, "messages: MongoDB refused the document (code 121)")
    ]
    assert_conversations_are_whole(stored, messages=3)


def test_a_message_left_over_from_a_removed_conversation_causes_no_endless_loop(
    connections: Connections, stored: Database[dict[str, Any]], tmp_path: Path
) -> None:
    path = write(tmp_path / "all.jsonl", [conversation("c1"), conversation("c2")])
    run(connections, path)
    stored.conversations.delete_one({"ref": "c2"})
    report = run(connections, path)
    assert (report.stored, report.already_there) == (0, 1)
    assert [each.reason for each in report.refused] == ["messages: another document has the same _id (E11000)"]


def test_a_conversation_over_16_mib_in_small_messages_is_stored(
    connections: Connections, stored: Database[dict[str, Any]], tmp_path: Path
) -> None:
    path = write(
        tmp_path / "large.jsonl", [conversation("large", messages=20, text="x" * 1_000_000), conversation("b")]
    )
    report = run(connections, path)
    assert (report.stored, report.refused) == (2, [])
    assert len(texts(stored, "large")) == 20


def test_progress_ends_at_the_size_of_the_files(connections: Connections, tmp_path: Path) -> None:
    path = write(tmp_path / "all.jsonl.gz", [conversation(f"c{index}") for index in range(1200)])
    seen: list[tuple[int, int, int]] = []
    import_files(
        [path, SAMPLES],
        ORGANIZATION,
        connections,
        lambda done, total, report: seen.append((done, total, report.stored)),
    )
    total = path.stat().st_size + SAMPLES.stat().st_size
    assert seen == sorted(seen)
    assert len(seen) >= 5
    assert seen[-1] == (total, total, 1224)
