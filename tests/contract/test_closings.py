"""A closing becomes one request if its organization's policy admits it, however many sources report it."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bson import ObjectId

from support.pipeline import run_accepted, service_on
from support.platform import Platform
from support.waiting import eventually
from worker.clock import milliseconds
from worker.closings.accept import Closings
from worker.closings.policies import Policies
from worker.closings.results import ClosedConversation, ClosingResult, Skipped
from worker.errors import NotResolvedYet
from worker.service import Receipt, Service
from worker.settings import Settings
from worker.sweep.sweep import Sweep


@pytest.fixture
def platform(service: Service) -> Platform:
    return Platform(service.connections.database)


def accept(service: Service, platform: Platform, *conversations: ObjectId) -> list[ClosingResult]:
    return Closings(service).accept([ClosedConversation(platform.organization, each) for each in conversations])


def set_policy(service: Service, platform: Platform, **fields: Any) -> None:
    Policies(service.connections).set(platform.organization, fields)


def reason_of(service: Service, platform: Platform, conversation: ObjectId) -> str | None:
    (answer,) = accept(service, platform, conversation)
    return answer.reason if isinstance(answer, Skipped) else None


def test_request_id_of_a_closing_contains_the_date_in_the_database(service: Service, platform: Platform) -> None:
    conversation = platform.converse()
    resolved_at = platform.close(conversation)
    (first,) = accept(service, platform, conversation)
    (again,) = Closings(service).accept([ClosedConversation(None, conversation)])
    assert isinstance(first, Receipt)
    assert isinstance(again, Receipt)
    assert (first.created, again.created) == (True, False)
    assert first.id == again.id
    (request,) = platform.requests()
    assert request["requestId"] == f"resolved:{conversation}:{milliseconds(resolved_at)}"
    assert request["trigger"] == "conversation.resolved"
    assert (request["contactId"], request["conversationId"]) == (platform.contact, conversation)


def test_closing_twice_in_one_batch_is_one_request(service: Service, platform: Platform) -> None:
    conversation = platform.converse()
    platform.close(conversation)
    answers = accept(service, platform, conversation, conversation)
    assert [isinstance(each, Receipt) for each in answers] == [True, True]
    assert len(platform.requests()) == 1


def test_policy_change_between_two_sources_is_no_conflict(service: Service, platform: Platform) -> None:
    conversation = platform.converse()
    platform.close(conversation)
    (first,) = accept(service, platform, conversation)
    set_policy(service, platform, tags=["later"], enabled=False)
    (again,) = accept(service, platform, conversation)
    assert isinstance(first, Receipt)
    assert isinstance(again, Receipt)
    assert again.id == first.id
    assert platform.requests()[0]["tags"] == []


def test_concurrent_sources_under_different_policies_make_one_request_per_closing(
    service: Service, platform: Platform
) -> None:
    conversations = platform.converse_often(20)
    platform.close(*conversations)
    sources = []
    for tag in ("a", "b", "c", "d"):
        set_policy(service, platform, tags=[tag])
        sources.append(Closings(service))
        other = platform.converse()
        platform.close(other)
        sources[-1].accept([ClosedConversation(None, other)])  # which caches the policy for 3 s

    def see(source: Closings) -> list[ClosingResult]:
        return source.accept([ClosedConversation(None, each) for each in conversations])

    with ThreadPoolExecutor(4) as pool:
        seen = list(pool.map(see, sources))
    assert len(platform.requests()) == 20 + len(sources)
    for answers in zip(*seen, strict=True):
        receipts = [each for each in answers if isinstance(each, Receipt)]
        assert len(receipts) == len(sources), answers
        assert len({each.id for each in receipts}) == 1


def test_deleted_snapshot_of_a_closing_is_not_made_again(service: Service, platform: Platform) -> None:
    set_policy(service, platform, settleSeconds=0)
    conversation = platform.converse()
    platform.close(conversation)
    (first,) = accept(service, platform, conversation)
    run_accepted(service)
    assert isinstance(first, Receipt)
    service.delete(platform.organization, first.id)
    (again,) = accept(service, platform, conversation)
    assert isinstance(again, Receipt)
    assert (again.id, again.created) == (first.id, False)
    assert platform.snapshots() == []


def test_open_missing_and_foreign_conversations_are_not_resolved_yet(service: Service, platform: Platform) -> None:
    closed, still_open, reopened, undated = platform.converse_often(4)
    platform.close(closed, reopened)
    platform.reopen(reopened)
    platform.database.conversations.update_one({"_id": undated}, {"$set": {"isResolved": True}})
    asked = [ClosedConversation(platform.organization, each) for each in (still_open, reopened, undated, ObjectId())]
    answers = Closings(service).accept(
        [*asked, ClosedConversation(ObjectId(), closed), ClosedConversation(platform.organization, closed)]
    )
    assert [isinstance(each, NotResolvedYet) for each in answers] == [True] * 5 + [False]
    assert len(platform.requests()) == 1


def test_conversation_without_an_organization_is_not_resolved_yet_and_breaks_no_batch(
    service: Service, platform: Platform
) -> None:
    orphan, closed = platform.converse_often(2)
    platform.close(orphan, closed)
    platform.database.conversations.update_one({"_id": orphan}, {"$unset": {"organizationId": ""}})
    reports = [ClosedConversation(owner, key) for owner in (None, platform.organization) for key in (orphan, closed)]
    answers = Closings(service).accept(reports)
    assert [isinstance(each, NotResolvedYet) for each in answers] == [True, False, True, False]
    assert len(platform.requests()) == 1


def test_imported_conversation_is_a_closing_if_it_is_reported(service: Service, platform: Platform) -> None:
    conversation = platform.converse()
    resolved_at = platform.close(conversation)
    platform.database.conversations.update_one({"_id": conversation}, {"$set": {"importedResolvedAt": resolved_at}})
    (answer,) = accept(service, platform, conversation)
    assert isinstance(answer, Receipt)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"isResolved": 1}, "is_resolved_not_boolean"),
        ({"isResolved": "true"}, "is_resolved_not_boolean"),
        ({"resolvedAt": "2026-05-18T14:30:00Z"}, "resolved_at_not_date"),
        ({"resolvedAt": 1_779_114_600_000}, "resolved_at_not_date"),
        ({"isResolved": "false"}, None),
        ({"isResolved": 0}, None),
        ({"isResolved": False, "resolvedAt": "2026-05-18"}, None),
        ({"resolvedAt": None}, None),
    ],
)
def test_closing_with_a_field_of_the_wrong_type_is_skipped(
    service: Service, platform: Platform, fields: dict[str, Any], reason: str | None
) -> None:
    conversation = platform.converse()
    platform.close(conversation)
    platform.database.conversations.update_one({"_id": conversation}, {"$set": fields})
    assert reason_of(service, platform, conversation) == reason
    counts = Closings(service).skipped.counts([platform.organization])[platform.organization]
    assert counts == ({reason: 1} if reason else {})
    platform.close(conversation)
    platform.database.conversations.update_one({"_id": conversation}, {"$set": {"isResolved": True}})
    (answer,) = accept(service, platform, conversation)
    assert isinstance(answer, Receipt)


# --- policies ---------------------------------------------------------------------------------------------------


def test_default_policy_requires_two_messages(service: Service, platform: Platform) -> None:
    none, one, two = platform.converse(0), platform.converse(1), platform.converse(2)
    platform.close(none, one, two)
    reasons = [reason_of(service, platform, each) for each in (none, one, two)]
    assert reasons == ["too_few_messages", "too_few_messages", None]


def test_policy_skips_with_its_reason(service: Service) -> None:
    cases: list[tuple[dict[str, Any], int, dict[str, Any], str | None]] = [
        ({"enabled": False}, 3, {}, "policy_disabled"),
        ({"channelTypes": ["whatsapp"]}, 3, {"channelType": "sms"}, "channel_type"),
        ({"channelTypes": ["WhatsApp"]}, 3, {"channelType": "whatsapp"}, None),
        ({"channelTypes": ["whatsapp"]}, 3, {}, "channel_type"),
        ({"channelTypes": ["email"]}, 3, {}, None),
        ({"minimumMessages": 4}, 3, {}, "too_few_messages"),
        ({"minimumMessages": 0}, 0, {}, None),
        ({"minimumFromContact": 3}, 4, {}, "too_few_from_contact"),
        ({"minimumFromUser": 2}, 3, {}, "too_few_from_user"),
        ({"minimumFromContact": 2, "minimumFromUser": 1}, 3, {}, None),
        ({"samplingShare": 0}, 3, {}, "sampled_out"),
        ({}, 3, {"contactId": None}, "no_contact"),
    ]
    closings = []
    for policy, messages, fields, _ in cases:
        platform = Platform(service.connections.database)
        set_policy(service, platform, **policy)
        closings.append(ClosedConversation(platform.organization, platform.converse(messages, **fields)))
        platform.close(closings[-1].conversation_id)
    answers = Closings(service).accept(closings)
    reasons = [each.reason if isinstance(each, Skipped) else None for each in answers]
    assert reasons == [reason for *_, reason in cases]


def test_skipped_closing_counts_once_until_it_is_admitted(service: Service, platform: Platform) -> None:
    conversation = platform.converse(1)
    platform.close(conversation)
    answers = [accept(service, platform, conversation)[0] for _ in range(2)]
    assert [each.first for each in answers if isinstance(each, Skipped)] == [True, False]
    counts = Closings(service).skipped.counts([platform.organization])
    assert counts[platform.organization] == {"too_few_messages": 1}
    platform.say(conversation)
    assert reason_of(service, platform, conversation) is None
    assert Closings(service).skipped.counts([platform.organization])[platform.organization] == {}


def test_invalid_policy_skips_closings(service: Service, platform: Platform) -> None:
    platform.database.snapshotpolicies.insert_one({"organizationId": platform.organization, "enabled": "no"})
    conversation = platform.converse()
    platform.close(conversation)
    assert reason_of(service, platform, conversation) == "policy_invalid"


def test_snapshot_gets_the_labels_of_the_policy(service: Service, platform: Platform) -> None:
    set_policy(service, platform, tags=["auto"], category="support", quality="good", settleSeconds=0)
    conversation = platform.converse()
    platform.close(conversation)
    accept(service, platform, conversation)
    run_accepted(service)
    (snapshot,) = platform.snapshots()
    assert (snapshot["tags"], snapshot["category"], snapshot["quality"]) == (["auto"], "support", "good")


def test_labels_beyond_the_current_limits_remain_valid(settings: Settings) -> None:
    with service_on(settings.model_copy(update={"max_tags": 100})) as service:
        platform = Platform(service.connections.database)
        set_policy(service, platform, tags=[f"t{number}" for number in range(60)])
        conversation = platform.converse()
        platform.close(conversation)
        (receipt,) = accept(service, platform, conversation)
        assert isinstance(receipt, Receipt)
        assert len(receipt.entry["tags"]) == 60


# --- settling ---------------------------------------------------------------------------------------------------


def test_message_within_the_settle_delay_is_part_of_the_snapshot(service: Service, platform: Platform) -> None:
    set_policy(service, platform, settleSeconds=0.5)
    conversation = platform.converse()
    resolved_at = platform.close(conversation)
    accept(service, platform, conversation)
    (request,) = platform.requests()
    assert "queue" not in request
    # The service's clock is MongoDB's, which it knows to half a round trip, and the test's is another one.
    assert timedelta(seconds=0.25) < request["notBefore"] - resolved_at <= timedelta(seconds=0.5)
    platform.say(conversation)

    def after_a_sweep() -> list[dict[str, Any]]:
        Sweep(service)()
        return [each for each in platform.requests() if each.get("dueAt")]

    due = eventually(after_a_sweep, 5)
    assert due[0]["queue"] == "snapshots"
    assert datetime.now(UTC) - resolved_at > timedelta(seconds=0.25)
    run_accepted(service)
    assert platform.snapshots()[0]["messageCount"] == 3


@pytest.mark.parametrize(("settle", "ago"), [(0, 0), (30, 31)])
def test_closing_without_a_remaining_delay_is_enqueued_immediately(
    service: Service, platform: Platform, settle: float, ago: float
) -> None:
    set_policy(service, platform, settleSeconds=settle)
    conversation = platform.converse()
    platform.close(conversation, ago=timedelta(seconds=ago))
    accept(service, platform, conversation)
    (request,) = platform.requests()
    assert "notBefore" not in request
    assert request["queue"] == "snapshots"


def test_platform_clock_that_is_ahead_delays_nothing(service: Service, platform: Platform) -> None:
    conversation = platform.converse()
    platform.close(conversation, ago=timedelta(minutes=-10))
    accept(service, platform, conversation)
    (request,) = platform.requests()
    waits = request["notBefore"] - request["acceptedAt"]
    assert timedelta(seconds=29) < waits <= timedelta(seconds=30)
