"""The change stream and the reconcile: every closing that the policy admits becomes one request, whatever was down."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pymongo
import pytest
from bson import ObjectId

from support.faults import failing
from support.pipeline import publish_nothing, run_accepted, service_on
from support.platform import Platform
from support.waiting import eventually
from worker.closings.accept import Accepted, Claim, Closing, Closings
from worker.closings.change_stream import ClosingsWatch
from worker.closings.reconcile import Reconcile
from worker.errors import StoreUnavailable
from worker.service import Service
from worker.settings import Settings
from worker.stores.checkpoints import State
from worker.stores.connections import Connections


@pytest.fixture
def own(settings: Settings) -> Settings:
    return settings.model_copy(update={"settle_seconds": 0.0, "retry_floor": timedelta(seconds=0.05)})


@pytest.fixture
def service(own: Settings) -> Iterator[Service]:
    with service_on(own) as made:
        yield made


@pytest.fixture
def platform(service: Service) -> Platform:
    return Platform(service.connections.database)


@contextmanager
def watching(settings: Settings, closings: Callable[[Service], Closings] | None = None) -> Iterator[None]:
    """A watcher with connections of its own, as another process has; it watches by the time that this enters."""
    connections = Connections(settings)
    service = Service(connections, publish_nothing)
    watch = ClosingsWatch(service, closings(service) if closings else None)
    stop = threading.Event()
    thread = threading.Thread(target=watch.run, args=(stop,))
    thread.start()
    try:
        eventually(lambda: State(connections).get("closings"), 45)
        yield
    finally:
        stop.set()
        thread.join(20)
        connections.close()
        assert not thread.is_alive()


def closed(platform: Platform) -> set[ObjectId]:
    return {each["conversationId"] for each in platform.requests()}


def wait_for(platform: Platform, conversations: Sequence[ObjectId]) -> None:
    eventually(lambda: closed(platform) >= set(conversations), 45)
    assert sorted(each["conversationId"] for each in platform.requests()) == sorted(conversations)


def token(service: Service) -> dict[str, Any]:
    return dict(State(service.connections).get("closings"))


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
            entries.accept([Closing(platform.organization, conversation)])
        eventually(lambda: closed(platform) >= {*by_update, *by_both}, 45)
    platform.close(*while_down[:25], *too_short[10:])
    for conversation in [*by_entry, *while_down[25:]]:
        platform.close(conversation)
        entries.accept([Closing(platform.organization, conversation)])
    with watching(own):
        wait_for(platform, [*by_update, *by_entry, *by_both, *while_down])
    assert Reconcile(service).everything().accepted == 0
    assert entries.left_out.counts([platform.organization]) == {platform.organization: {"too_few_messages": 20}}
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
        assert Reconcile(service).everything().seen == 1
        platform.reopen(again)
        platform.close(again)
        wait_for(platform, [other, again])
    assert imported not in closed(platform)


def test_conversation_that_is_open_again_is_passed_over(own: Settings, service: Service, platform: Platform) -> None:
    reopened, other = platform.converse_often(2)
    with watching(own):
        pass
    platform.close(reopened)
    platform.reopen(reopened)
    platform.close(other)
    with watching(own):
        wait_for(platform, [other])


# --- the resume token -------------------------------------------------------------------------------------------


class Broken(Closings):
    """Cannot reach the ledger the first times."""

    failures = 3

    def accept(self, closings: Sequence[Claim]) -> list[Accepted]:
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

    class Down(Broken):
        failures = 1_000_000

    with watching(own, Down):
        eventually(lambda: platform.database.conversations.count_documents({"isResolved": True}))
        assert token(service) == before
    assert token(service) == before
    with watching(own, Broken):
        wait_for(platform, [conversation])
        eventually(lambda: token(service) != before)


def test_stream_whose_token_fell_off_the_oplog_is_opened_anew_and_reconciled(
    own: Settings, service: Service, platform: Platform, mongo_client: pymongo.MongoClient[Any]
) -> None:
    missed, older, seen, later = platform.converse_often(4)
    platform.close(missed)
    platform.close(older, ago=timedelta(hours=70))
    with service.connections.database.conversations.watch() as stream:  # behind both: only a reconcile finds them
        behind = stream.resume_token
    State(service.connections).set("closings", {"token": behind, "reached": datetime.now(UTC) - timedelta(hours=72)})
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
def test_token_of_no_use_leads_to_a_reconcile(
    own: Settings, service: Service, platform: Platform, bad: dict[str, str]
) -> None:
    missed, older, seen, lost = platform.converse_often(4)
    platform.close(missed)
    platform.close(lost, ago=timedelta(hours=90))
    platform.close(older, ago=timedelta(hours=70))
    reached = datetime.now(UTC) - timedelta(hours=72)
    State(service.connections).set("closings", {"token": bad, "reached": reached})
    with watching(own):
        eventually(lambda: token(service)["token"] != bad, 45)
        platform.close(seen)
        wait_for(platform, [missed, older, seen])


def test_collection_that_is_dropped_and_made_again_is_watched(
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


# --- the reconcile ----------------------------------------------------------------------------------------------


def test_reconcile_finds_the_closings_of_48_hours_without_a_request(service: Service, platform: Platform) -> None:
    fresh, short, old, older, future = platform.converse_often(5)
    short = platform.converse(1)
    platform.close(fresh, short)
    platform.close(old, ago=timedelta(hours=47))
    platform.close(older, ago=timedelta(hours=49))
    platform.close(future, ago=timedelta(hours=-1))
    done = Reconcile(service).in_slices()
    assert (done.seen, done.accepted, done.left_out) == (3, 2, 1)
    assert closed(platform) == {fresh, old}
    again = Reconcile(service).in_slices()
    assert (again.seen, again.accepted) == (3, 0)
    platform.say(short)
    assert Reconcile(service).in_slices().accepted == 1


@pytest.mark.parametrize("by", ["change stream", "reconcile"])
def test_closing_that_breaks_our_own_code_holds_up_no_other(
    own: Settings, service: Service, platform: Platform, by: str
) -> None:
    good, broken = platform.converse_often(8), platform.converse()

    def breaking(of: Service) -> Closings:
        closings = Closings(of)
        make = closings._asked

        def asked(conversation: Any, *rest: Any) -> Any:
            if conversation["_id"] == broken:
                raise KeyError("no one foresaw it")
            return make(conversation, *rest)

        closings._asked = asked  # type: ignore[method-assign,assignment]
        return closings

    if by == "reconcile":
        platform.close(*good[:4], broken, *good[4:])
        done = Reconcile(service, breaking(service)).in_slices()
        assert (done.accepted, done.not_resolved) == (8, 1)
        assert closed(platform) == set(good)
        return
    with watching(own, breaking):
        platform.close(*good[:4], broken, *good[4:])
        wait_for(platform, good)
        later = platform.converse()
        platform.close(later)
        wait_for(platform, [*good, later])


def test_conversation_with_an_id_of_another_kind_is_passed_over(
    own: Settings, service: Service, platform: Platform
) -> None:
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
    assert Reconcile(service).everything().seen == 1


def test_reconcile_that_is_out_of_time_goes_on_where_it_stopped(own: Settings, platform: Platform) -> None:
    conversations = platform.converse_often(600)
    for hours in (1, 2):
        platform.close(*conversations[(hours - 1) * 300 : hours * 300], ago=timedelta(hours=hours))
    platform.close(conversations[0])
    with service_on(own) as service:
        reconcile = Reconcile(service)
        since, until = datetime.now(UTC) - timedelta(hours=48), datetime.now(UTC)
        done, reached = reconcile._walk(since, until, stop_at=0.001)
        assert (done.accepted, reached is None) == (500, False)
        assert reached
        done, end = reconcile._walk(reached, until, stop_at=0.001)
        assert (done.accepted, end) == (100, None)
    assert closed(platform) == set(conversations)


def test_reconcile_reads_by_the_index(service: Service, platform: Platform) -> None:
    platform.close(*platform.converse_often(3))
    plan = (
        platform.database.conversations.find({"resolvedAt": {"$gte": datetime.now(UTC) - timedelta(hours=48)}})
        .sort("resolvedAt", 1)
        .explain()["queryPlanner"]["winningPlan"]
    )
    assert "IXSCAN" in str(plan)
    assert "SORT" not in str(plan)
