"""The Python client against a real Redis, with a listener and runs behind it."""

import asyncio
import time
from datetime import UTC, datetime

import pytest
import redis
from bson import ObjectId

from support.clients import ask, event_ids
from support.contacts import Contact, contact_with
from support.dropping import forwarder_to
from support.in_process import pipeline
from support.intake import STREAM
from support.waiting import allowed, eventually
from worker.client import AsyncSnapshotClient, CompletedEvent, NotDurable, Outcome, Rejected, SnapshotClient
from worker.domain.ledger_entry import LedgerEntry, with_fields
from worker.errors import BrokerUnavailable, InvalidRequest
from worker.service import Service
from worker.settings import Settings

FINISHED: LedgerEntry = {
    "_id": ObjectId(),
    "bodyHash": "",
    "organizationId": ObjectId(),
    "requestId": "r",
    "trigger": "client",
    "status": "completed",
    "round": 0,
    "snapshotId": ObjectId(),
    "messageCount": 1,
    "finishedAt": datetime(2026, 5, 18, tzinfo=UTC),
}


def test_a_request_has_its_outcome(client: SnapshotClient, contact: Contact, service: Service) -> None:
    with pipeline(service):
        sent = ask(client, contact, conversation_id=contact.conversations[0], tags=("vip",), notes="Grüße\n😀")
        outcome = client.wait(sent, 20)
    assert sent.snapshot_id is None
    assert outcome.completed
    assert outcome.request_id == sent.request_id
    assert outcome.snapshot_id == outcome.event.subject
    assert isinstance(outcome.event, CompletedEvent)
    assert outcome.event.data.message_count == 3
    assert outcome.event.data.trigger == "client"
    snapshot = service.connections.database.trainingsnapshots.find_one({"_id": ObjectId(outcome.snapshot_id)})
    assert snapshot is not None
    assert snapshot["tags"] == ["vip"]
    assert snapshot["notes"] == "Grüße\n😀"


def test_asyncio_does_the_same(settings: Settings, contact: Contact, service: Service) -> None:
    async def run() -> tuple[Outcome, list[str]]:
        async with AsyncSnapshotClient(settings.redis_url) as client:
            sent = [await client.request(contact.organization, contact.id) for _ in range(3)]
            outcomes = await asyncio.gather(*(client.wait(each, 20) for each in sent))
            seen = [event.id async for event in client.events("g", "c", timeout=allowed(0.3))]
            return outcomes[0], seen

    with pipeline(service):
        outcome, seen = asyncio.run(run())
    assert outcome.completed
    assert len(seen) == len(set(seen)) == 3


def test_a_failure_says_why(client: SnapshotClient, contact: Contact, service: Service) -> None:
    with pipeline(service):
        outcome = client.wait(ask(client, contact, message_ids=[ObjectId()]), 20)
    assert not outcome.completed
    assert outcome.snapshot_id is None
    assert outcome.error is not None
    assert outcome.error.code == "messages_not_found"


def test_an_outcome_from_before_the_wait_began_is_not_missed(
    client: SnapshotClient, contact: Contact, service: Service
) -> None:
    with pipeline(service):
        first, second = ask(client, contact), ask(client, contact)
        assert client.wait(second, 20).completed
        eventually(lambda: len(service.events.read()) == 2)
    assert client.wait(first, 1).completed


def test_what_completed_before_it_was_sent_again_is_found(
    client: SnapshotClient, contact: Contact, service: Service, settings: Settings
) -> None:
    with pipeline(service):
        first = client.wait(ask(client, contact, request_id='order "17" é'), 20)
        with SnapshotClient(settings.redis_url) as restarted:
            again = restarted.wait(ask(restarted, contact, request_id='order "17" é'), 20)
            by_name = restarted.wait('order "17" é', 20)
    assert first.event == again.event == by_name.event
    assert service.ledger.collection.count_documents({}) == 1


def test_a_short_wait_finds_what_is_there_already(client: SnapshotClient, contact: Contact, service: Service) -> None:
    with pipeline(service):
        assert client.wait(ask(client, contact, request_id="again"), 20).completed
        assert client.wait(ask(client, contact, request_id="again"), 0.3).completed


def test_the_same_request_id_of_another_organization_is_another_request(
    client: SnapshotClient, contact: Contact, service: Service
) -> None:
    other = contact_with(service.connections.database, 1)
    with pipeline(service):
        sent = [ask(client, each, request_id="order-17") for each in (contact, other)]
        outcomes = [client.wait(each, 20) for each in reversed(sent)]
    organizations = [outcome.event.data.organization_id for outcome in outcomes]
    assert organizations == [str(other.organization), str(contact.organization)]


def test_a_refused_entry_raises_its_reason(client: SnapshotClient, contact: Contact, service: Service) -> None:
    with pipeline(service):
        client.wait(ask(client, contact, request_id="a"), 20)
        with pytest.raises(Rejected, match="already used for a request with other fields") as caught:
            client.wait(ask(client, contact, request_id="a", notes="other"), 20)
    assert caught.value.details["code"] == "request_id_conflict"


def test_a_wait_ends_in_time(client: SnapshotClient, contact: Contact) -> None:
    started = time.monotonic()
    with pytest.raises(TimeoutError, match="no outcome within"):
        client.wait(ask(client, contact), 0.3)
    assert 0.3 <= time.monotonic() - started < allowed(2)


def test_a_closing_is_sent(client: SnapshotClient, settings: Settings) -> None:
    organization, conversation = ObjectId(), ObjectId()
    entry = client.resolved(organization, conversation)
    with redis.Redis.from_url(settings.redis_url, decode_responses=True) as server:
        ((key, fields),) = server.xrange(STREAM)
    assert key == entry
    assert fields["type"] == "conversation.resolved"


def test_bad_input_is_refused_before_it_is_sent(client: SnapshotClient, settings: Settings) -> None:
    with pytest.raises(InvalidRequest) as caught:
        client.request("x", ObjectId(), tags="vip", converstion_id=ObjectId())  # type: ignore[call-arg]
    assert [each["field"] for each in caught.value.errors] == ["organizationId", "tags", "converstionId"]
    with redis.Redis.from_url(settings.redis_url) as server:
        assert not server.exists(STREAM)


# --- when the network fails ---------------------------------------------------------------------------------


def test_an_answer_that_is_lost_makes_no_second_request(contact: Contact, service: Service, settings: Settings) -> None:
    with forwarder_to(settings.redis_url) as (line, url), SnapshotClient(url) as client, pipeline(service):
        line.swallow(b"XADD")
        outcome = client.wait(ask(client, contact), 20)
    assert outcome.completed
    assert service.connections.redis.xlen(STREAM) == 2
    assert service.ledger.collection.count_documents({}) == 1


def test_when_redis_stays_away_the_error_names_the_request_id_to_go_on_with(contact: Contact) -> None:
    with SnapshotClient("redis://127.0.0.1:1/0") as client, pytest.raises(BrokerUnavailable) as caught:
        ask(client, contact)
    assert len(caught.value.details["requestId"]) == 36


def test_also_where_it_is_to_be_durable_and_redis_was_never_there(contact: Contact) -> None:
    client = SnapshotClient("redis://127.0.0.1:1/0", durable=True)
    with client, pytest.raises(BrokerUnavailable, match="same request id") as caught:
        ask(client, contact)
    assert len(caught.value.details["requestId"]) == 36


def test_a_wrong_password_is_no_outage(settings: Settings, contact: Contact) -> None:
    with SnapshotClient(settings.redis_url.replace("redis://", "redis://:wrong@")) as client:
        for act in (lambda: ask(client, contact), lambda: client.wait("r", 20), lambda: event_ids(client)):
            began = time.monotonic()
            with pytest.raises(BrokerUnavailable, match="Redis refused the command"):
                act()
            assert time.monotonic() - began < allowed(5)


@pytest.mark.usefixtures("changeable_redis")
def test_what_redis_refuses_is_told_by_its_own_name(settings: Settings, contact: Contact, service: Service) -> None:
    with redis.Redis.from_url(settings.redis_url) as server, SnapshotClient(settings.redis_url) as client:
        server.config_set("maxmemory", 1)
        try:
            with pytest.raises(BrokerUnavailable, match=r"\(OOM\)"):
                ask(client, contact)
            with pytest.raises(BrokerUnavailable, match=r"\(OOM\)"):
                service.events.emit([with_fields(FINISHED, _id=ObjectId())])
        finally:
            server.config_set("maxmemory", 0)


def test_a_wait_is_over_at_its_time_also_where_redis_is_away() -> None:
    with SnapshotClient("redis://127.0.0.1:1/0") as client:
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            client.wait("r", 0.3)
        assert time.monotonic() - began < allowed(2)


def test_a_lost_line_is_no_end_of_the_events(contact: Contact, service: Service, settings: Settings) -> None:
    with forwarder_to(settings.redis_url) as (line, url), SnapshotClient(url) as client, pipeline(service):
        for _ in range(5):
            ask(client, contact)
        eventually(lambda: len(service.events.read()) == 5)
        line.swallow(b"XREADGROUP", 2)
        seen = []
        for number, event in enumerate(client.events("g", "c", timeout=allowed(1))):
            seen.append(event.id)
            if number == 2:
                line.swallow(b"XACK")
    assert len(seen) == len(set(seen)) == 5


# --- durable ----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("changeable_redis")
def test_durable_waits_for_the_disk_and_refuses_a_server_without_one(settings: Settings, contact: Contact) -> None:
    with redis.Redis.from_url(settings.redis_url, decode_responses=True) as server:
        before = server.config_get("appendonly")["appendonly"]
        try:
            server.config_set("appendonly", "yes")
            eventually(lambda: server.info("persistence")["aof_rewrite_in_progress"] == 0)
            with SnapshotClient(settings.redis_url, durable=True) as client:
                assert ask(client, contact).entry_id
            server.config_set("appendonly", "no")
            with (
                SnapshotClient(settings.redis_url, durable=True) as client,
                pytest.raises(NotDurable, match="appendonly yes"),
            ):
                ask(client, contact)
            assert server.xlen(STREAM) == 1
        finally:
            server.config_set("appendonly", before)
