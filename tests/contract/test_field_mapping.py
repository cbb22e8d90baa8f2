"""A platform whose documents have other names and values: everything that reads it follows the settings."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, cast

import pytest
from bson import ObjectId

from support.closings import watching
from support.ledger import START
from support.odd_platform import NAMES, Odd
from support.pipeline import service_on
from support.waiting import eventually
from worker.api.checks import RequestChecks
from worker.api.populate import Populator
from worker.backfills.accepting import accept_backfill
from worker.backfills.progress import Progress
from worker.backfills.running import Runner
from worker.closings.accept import Closings
from worker.closings.policies import Policies
from worker.closings.reconcile import Reconcile
from worker.closings.results import ClosedConversation, Skipped
from worker.doctor.fixture import Fixture
from worker.domain.ledger_entry import LedgerEntry
from worker.domain.requests import SnapshotRequest
from worker.errors import MessagesNotFound, NotResolvedYet
from worker.jobs.store import Jobs
from worker.runs.run import Run
from worker.service import NewRequest, Receipt, Service
from worker.settings import Settings


@pytest.fixture
def mapped(settings: Settings) -> Settings:
    return settings.model_copy(update=NAMES)


@pytest.fixture
def service(mapped: Settings) -> Iterator[Service]:
    with service_on(mapped) as made:
        yield made


@pytest.fixture
def odd(service: Service) -> Odd:
    return Odd(service)


@pytest.mark.parametrize(
    ("owner", "text_ids", "irregular"),
    [
        ("conversation", False, False),
        ("conversation", False, True),
        ("conversation", True, False),
        ("contact", False, False),
        ("contact", True, True),
        ("messages", True, False),
    ],
)
def test_snapshot_has_the_mapped_fields_and_counts_what_was_omitted(
    odd: Odd, service: Service, owner: str, text_ids: bool, irregular: bool
) -> None:
    lines = odd.database.chat_lines
    if not text_ids:
        lines.update_one({"_id": odd.messages[1]}, {"$set": {"chatId": odd.chat}})
    if irregular:
        lines.update_one({"_id": odd.messages[0]}, {"$set": {"sentAt": START.isoformat()}})
    asked: dict[str, dict[str, Any]] = {
        "contact": {},
        "conversation": {"conversationId": odd.chat},
        "messages": {"messageIds": odd.messages},
    }
    snapshot = odd.snapshot(service, **asked[owner])
    assert [snapshot[name] for name in ("customerName", "customerPhone", "customerEmail")] == [
        "Priya Holloway",
        "+44 1",
        "p@example.com",
    ]
    assert snapshot["messages"] == [
        {
            "id": str(odd.messages[place]),
            "content": f"Text {place}",
            "sender": "contact" if place % 3 == 0 else "user",
            "senderType": ("CONTACT", "HUMAN", "AI")[place % 3],
            "timestamp": START + timedelta(seconds=place),
        }
        for place in range(4)
    ]
    assert (snapshot["messageCount"], snapshot["omittedMessageCount"]) == (4, 2)
    assert snapshot["conversationEndDate"] == START + timedelta(seconds=3)


@pytest.mark.parametrize("irregular", [False, True])
@pytest.mark.parametrize(
    ("own", "kept"),
    [
        ({"message_internal_field": "author.kind", "message_internal_values": "bot"}, [0, 1, 3, 4]),
        ({"message_internal_field": "public", "message_internal_values": "false"}, [0, 2, 4]),
        (
            {
                "message_internal_field": "author.kind",
                "message_internal_values": "bot",
                "message_deleted_field": "author.kind",
                "message_deleted_values": "customer",
            },
            [1, 4],
        ),
    ],
)
def test_messages_with_one_of_the_named_values_are_omitted(
    mapped: Settings, own: dict[str, str], kept: list[int], irregular: bool
) -> None:
    flags = {"message_deleted_field": None, "message_internal_field": None}
    with service_on(mapped.model_copy(update=flags | own)) as service:
        odd = Odd(service)
        lines = odd.database.chat_lines
        for place, key in enumerate(odd.messages):
            lines.update_one({"_id": key}, {"$set": {"chatId": odd.chat, "public": place % 2 == 0}})
        if irregular:
            lines.update_one({"_id": odd.messages[kept[0]]}, {"$set": {"sentAt": START.isoformat()}})
        snapshot = odd.snapshot(service, conversationId=odd.chat)
        assert lines.count_documents(service.connections.fields.message.kept) == len(kept)
    assert [each["content"] for each in snapshot["messages"]] == [f"Text {place}" for place in sorted(kept)]
    assert snapshot["omittedMessageCount"] == 6 - len(kept)


def test_conversation_whose_messages_are_all_omitted_is_empty(odd: Odd, service: Service) -> None:
    odd.database.chat_lines.update_many({}, {"$set": {"deletedAt": START, "chatId": odd.chat}})
    asked = NewRequest(SnapshotRequest.read(odd.request(conversationId=odd.chat)), "r", "client")
    (receipt,) = service.accept([asked])
    assert isinstance(receipt, Receipt)
    Run(service)([receipt.id])
    (entry,) = service.ledger.load([receipt.id])
    assert entry["error"]["code"] == "empty_conversation"


def test_name_of_the_mapped_resolver_is_redacted(odd: Odd, service: Service) -> None:
    Policies(service.connections).set(odd.organization, {"redact": ["name"]})
    odd.close()
    odd.database.users.update_one({"_id": odd.user}, {"$set": {"displayName": "Joaquin"}})
    odd.database.chat_lines.update_one({"_id": odd.messages[1]}, {"$set": {"content.body": "Joaquin will call Priya"}})
    snapshot = odd.snapshot(service, conversationId=odd.chat)
    assert snapshot["messages"][1]["content"] == "[NAME_1] will call [NAME_2]"


def test_checks_before_acceptance_and_populated_reads_follow_the_names(odd: Odd, service: Service) -> None:
    asked = odd.request(conversationId=odd.chat, messageIds=odd.messages)
    unknown = odd.request(messageIds=[ObjectId()])
    first, second = RequestChecks(service.connections)([cast("LedgerEntry", asked), cast("LedgerEntry", unknown)])
    assert first is None
    assert isinstance(second, MessagesNotFound)
    snapshot = {"_id": ObjectId(), "contactId": odd.contact, "userId": odd.user}
    (populated,) = Populator(service.connections)(odd.organization, [snapshot])
    assert populated["contactId"]["lastName"] == "Holloway"
    assert populated["userId"]["firstName"] == "Sam"


def test_closing_is_accepted_by_the_mapped_flag_and_counted_without_omitted_messages(
    odd: Odd, service: Service
) -> None:
    Policies(service.connections).set(odd.organization, {"minimumMessages": 5})
    closings = Closings(service)
    closing = ClosedConversation(odd.organization, odd.chat)
    (still_open,) = closings.accept([closing])
    assert isinstance(still_open, NotResolvedYet)
    odd.close()
    assert closings.accept([closing]) == [Skipped("too_few_messages", first=True)]
    Policies(service.connections).set(odd.organization, {"minimumMessages": 4, "minimumFromUser": 2})
    (receipt,) = Closings(service).accept([closing])
    assert isinstance(receipt, Receipt)


@pytest.mark.parametrize("whole", [True, False])
def test_change_stream_notices_a_nested_flag(odd: Odd, service: Service, mapped: Settings, whole: bool) -> None:
    Policies(service.connections).set(odd.organization, {"minimumMessages": 0})
    with watching(mapped):
        odd.database.chats.update_one({"_id": odd.chat}, {"$set": {"state.status": "open"}})
        if whole:
            odd.close()
        else:
            change = {"$set": {"state.status": "closed", "state.closedAt": START}}
            odd.database.chats.update_one({"_id": odd.chat}, change)
        eventually(lambda: odd.database.snapshotrequests.count_documents({"conversationId": odd.chat}), 30)


def test_reconcile_finds_the_mapped_closing(odd: Odd, service: Service) -> None:
    odd.close()
    assert Reconcile(service).run_all(START - timedelta(days=1)).seen == 1


def test_backfill_requests_the_mapped_conversations(odd: Odd, service: Service) -> None:
    jobs = Jobs(service)
    job = accept_backfill(jobs, odd.organization, {"minMessages": 1, "from": "2000-01-01"}, enqueue=False)
    progress = Progress.of(Runner(jobs, lambda _: None)(job.id, 0.1))
    assert (progress.conversations, progress.requests) == (1, 1)


def test_doctors_conversation_is_stored_under_the_names_and_removed(odd: Odd, service: Service) -> None:
    fixture = Fixture(service.connections)
    fixture.create()
    names = odd.database.list_collection_names()
    assert not {"contacts", "conversations", "messages"} & {
        name for name in names if odd.database[name].count_documents({})
    }
    asked = {"organizationId": _organization_of(odd, fixture), "contactId": fixture.contact}
    (fault,) = RequestChecks(service.connections)([cast("LedgerEntry", asked)])
    assert fault is None
    fixture.remove()
    assert [odd.database[name].count_documents({}) for name in ("customers", "chats", "chat_lines")] == [1, 1, 6]


def _organization_of(odd: Odd, fixture: Fixture) -> ObjectId:
    document = odd.database.customers.find_one({"_id": fixture.contact})
    assert document
    organization: ObjectId = document["tenant"]["ref"]
    return organization
