"""The change stream: every closing that the policy admits becomes one request, whatever was down."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pymongo
import pytest

from support.closings import closed, closings_that_break_on, token, wait_for, watching
from support.faults import failing
from support.pipeline import run_accepted
from support.platform import Platform
from support.waiting import eventually
from worker.closings.accept import Closings
from worker.closings.reconcile import Reconcile
from worker.closings.results import ClosedConversation, ClosingReport, ClosingResult
from worker.errors import StoreConflict, StoreUnavailable
from worker.service import Service
from worker.settings import Settings
from worker.stores.checkpoints import Checkpoints


@pytest.fixture
def platform(service: Service) -> Platform:
    return Platform(service.connections.database)


def test_closings_by_update_by_entry_and_by_both_make_one_request_each(
    own: Settings, service: Service, platform: Platform
) -> None:
    by_update, by_entry, by_both, while_down = (platform.converse_often(50) for _ in range(4))
    too_short = platform.converse_often(20, messages=1)
    still_open = platform.converse_often(5)
    entries = Closings(service)
    with watching(own), watching(own):
        platform.close(*by_update, *too_short[:10])
        for conversation in by_both:
            platform.close(conversation)
            entries.accept([ClosedConversation(platform.organization, conversation)])
        eventually(lambda: closed(platform) >= {*by_update, *by_both}, 45)
    platform.close(*while_down[:25], *too_short[10:])
    for conversation in [*by_entry, *while_down[25:]]:
        platform.close(conversation)
        entries.accept([ClosedConversation(platform.organization, conversation)])
    with watching(own):
        wait_for(platform, [*by_update, *by_entry, *by_both, *while_down])
    assert Reconcile(service).run_all().accepted == 0
    assert entries.skipped.counts([platform.organization]) == {platform.organization: {"too_few_messages": 20}}
    assert not closed(platform) & set(still_open)
    assert run_accepted(service).completed == 200
    assert len(platform.snapshots()) == 200


def test_every_way_to_write_a_closing_is_seen(own: Settings, service: Service, platform: Platform) -> None:
    conversations = platform.database.conversations
    now = datetime.now(UTC)
    flag_first, date_first, by_pipeline, replaced = platform.converse_often(4)
    inserted = platform.converse(isResolved=False)
    document = conversations.find_one_and_delete({"_id": inserted})
    assert document
    with watching(own):
        conversations.update_one({"_id": flag_first}, {"$set": {"isResolved": True}})
        conversations.update_one({"_id": flag_first}, {"$set": {"resolvedAt": now}})
        conversations.update_one({"_id": date_first}, {"$set": {"resolvedAt": now}})
        conversations.update_one({"_id": date_first}, {"$set": {"isResolved": True}})
        conversations.update_one({"_id": by_pipeline}, [{"$set": {"isResolved": True, "resolvedAt": "$$NOW"}}])
        whole = conversations.find_one({"_id": replaced})
        assert whole
        conversations.replace_one({"_id": replaced}, {**whole, "isResolved": True, "resolvedAt": now})
        conversations.insert_one({**document, "isResolved": True, "resolvedAt": now})
        wait_for(platform, [flag_first, date_first, by_pipeline, replaced, inserted])


def test_import_is_no_closing_until_it_is_closed_again(own: Settings, service: Service, platform: Platform) -> None:
    then = datetime.now(UTC) - timedelta(hours=1)
    imported = platform.converse(isResolved=True, resolvedAt=then, importedResolvedAt=then)
    other = platform.converse()
    with watching(own):
        again = platform.converse(isResolved=True, resolvedAt=then, importedResolvedAt=then)
        platform.close(other)
        wait_for(platform, [other])
        assert Reconcile(service).run_all().seen == 1
        platform.reopen(again)
        platform.close(again)
        wait_for(platform, [other, again])
    assert imported not in closed(platform)


def test_conversation_that_was_reopened_is_ignored(own: Settings, service: Service, platform: Platform) -> None:
    reopened, other = platform.converse_often(2)
    with watching(own):
        pass
    platform.close(reopened)
    platform.reopen(reopened)
    platform.close(other)
    with watching(own):
        wait_for(platform, [other])


# --- the resume token -------------------------------------------------------------------------------------------


class Unreachable(Closings):
    """Cannot reach the ledger for the first few calls."""

    failures = 3

    def accept(self, closings: Sequence[ClosingReport]) -> list[ClosingResult]:
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable
        return super().accept(closings)


def test_token_is_stored_only_once_the_ledger_has_the_requests(
    own: Settings, service: Service, platform: Platform
) -> None:
    with watching(own):
        pass
    before = token(service)
    conversation = platform.converse()
    platform.close(conversation)

    attempts: list[int] = []

    class Down(Closings):
        def accept(self, closings: Sequence[ClosingReport]) -> list[ClosingResult]:
            attempts.append(len(closings))
            raise StoreUnavailable

    with watching(own, Down):
        eventually(lambda: len(attempts) > 1, 45)
        assert token(service) == before
    assert token(service) == before
    with watching(own, Unreachable):
        wait_for(platform, [conversation])
        eventually(lambda: token(service) != before)


def test_stream_whose_token_fell_off_the_oplog_is_reopened_and_reconciled(
    own: Settings, service: Service, platform: Platform, mongo_client: pymongo.MongoClient[Any]
) -> None:
    missed, older, seen, later = platform.converse_often(4)
    platform.close(missed)
    platform.close(older, ago=timedelta(hours=70))
    with service.connections.database.conversations.watch() as stream:  # after both: only a reconcile finds them
        later_token = stream.resume_token
    Checkpoints(service.connections).set(
        "closings", {"token": later_token, "reached": datetime.now(UTC) - timedelta(hours=72)}
    )
    conversations = f"{own.mongo_database}.conversations"
    history_lost = {"namespace": conversations, "errorCode": 286, "mode": {"times": 1}}
    with failing(mongo_client, ["aggregate"], **history_lost), watching(own):
        wait_for(platform, [missed, older])
        with failing(mongo_client, ["getMore"], **history_lost):
            platform.close(seen)
            wait_for(platform, [missed, older, seen])
        with failing(
            mongo_client, ["getMore", "aggregate"], {"times": 4}, namespace=conversations, closeConnection=True
        ):
            platform.close(later)
            wait_for(platform, [missed, older, seen, later])


@pytest.mark.parametrize("bad", [{"_data": "no token"}, {"_data": "82"}])
def test_unusable_token_leads_to_a_reconcile(
    own: Settings, service: Service, platform: Platform, bad: dict[str, str]
) -> None:
    missed, older, seen, lost = platform.converse_often(4)
    platform.close(missed)
    platform.close(lost, ago=timedelta(hours=90))
    platform.close(older, ago=timedelta(hours=70))
    reached = datetime.now(UTC) - timedelta(hours=72)
    Checkpoints(service.connections).set("closings", {"token": bad, "reached": reached})
    with watching(own):
        eventually(lambda: token(service)["token"] != bad, 45)
        platform.close(seen)
        wait_for(platform, [missed, older, seen])


def test_collection_that_is_dropped_and_recreated_is_watched(
    own: Settings, service: Service, platform: Platform
) -> None:
    with watching(own):
        platform.database.conversations.drop()
        conversation = platform.converse()
        platform.close(conversation)
        wait_for(platform, [conversation])
        other = platform.converse()
        platform.close(other)
        wait_for(platform, [conversation, other])


# --- faulty conversations ---------------------------------------------------------------------------------------


def test_closings_with_fields_of_the_wrong_type_are_recorded_as_skipped(
    own: Settings, service: Service, platform: Platform
) -> None:
    conversations = platform.database.conversations
    by_flag, by_date, fine = platform.converse_often(3)
    ids = {"organizationId": platform.organization, "contactId": platform.contact}
    with watching(own):
        conversations.update_one({"_id": by_flag}, {"$set": {"isResolved": 1, "resolvedAt": datetime.now(UTC)}})
        conversations.update_one({"_id": by_date}, {"$set": {"isResolved": True, "resolvedAt": "2026-05-18T14:30:00Z"}})
        conversations.insert_one({**ids, "isResolved": "yes", "resolvedAt": 1_779_114_600_000})
        platform.close(fine)
        wait_for(platform, [fine])
        expected = {"is_resolved_not_boolean": 2, "resolved_at_not_date": 1}
        skipped = Closings(service).skipped
        eventually(lambda: skipped.counts([platform.organization])[platform.organization] == expected)


def test_closing_that_breaks_our_own_code_does_not_hold_up_others(
    own: Settings, service: Service, platform: Platform
) -> None:
    good, broken = platform.converse_often(8), platform.converse()
    with watching(own, lambda other: closings_that_break_on(other, broken)):
        platform.close(*good[:4], broken, *good[4:])
        wait_for(platform, good)
        later = platform.converse()
        platform.close(later)
        wait_for(platform, [*good, later])


def test_closing_that_fails_time_after_time_is_left_to_the_reconcile(
    own: Settings, service: Service, platform: Platform
) -> None:
    """As if MongoDB could not count its messages in time."""
    error = StoreConflict("MongoDB timed out.")
    good, slow = platform.converse_often(8), platform.converse()
    with watching(own, lambda other: closings_that_break_on(other, slow, error)):
        before = token(service)
        platform.close(*good[:4], slow, *good[4:])
        wait_for(platform, good)
        later = platform.converse()
        platform.close(later)
        wait_for(platform, [*good, later])
        eventually(lambda: token(service) != before, 45)
    failing_again = Reconcile(service, closings_that_break_on(service, slow, error)).run_all()
    assert (failing_again.accepted, failing_again.failed) == (0, 1)
    assert Reconcile(service).run_all().accepted == 1
    assert closed(platform) == {*good, later, slow}


def test_conversation_whose_id_is_no_objectid_is_ignored(own: Settings, service: Service, platform: Platform) -> None:
    ids = {"organizationId": platform.organization, "contactId": platform.contact}
    odd: list[Any] = ["conversation-17", {"a": 1}, 5]
    conversations: Any = platform.database.conversations
    with watching(own):
        for key in odd:
            conversations.insert_one({"_id": key, **ids, "isResolved": True, "resolvedAt": datetime.now(UTC)})
            platform.database.messages.insert_many({**ids, "conversationId": key, "content": "x"} for _ in range(2))
        fine = platform.converse()
        platform.close(fine)
        wait_for(platform, [fine])
    assert Reconcile(service).run_all().seen == 1
