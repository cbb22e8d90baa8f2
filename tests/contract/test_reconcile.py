"""The reconcile accepts recent closings that have no request."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from support.closings import closed, closings_that_break_on, without_delays
from support.pipeline import service_on
from support.platform import Platform
from worker.clock import milliseconds
from worker.closings.accept import Closings
from worker.closings.policies import Policies
from worker.closings.reconcile import Reconcile
from worker.closings.results import ClosingReport, ClosingTally
from worker.service import Service
from worker.settings import Settings


@pytest.fixture
def service(settings: Settings) -> Iterator[Service]:
    with service_on(without_delays(settings)) as made:
        yield made


@pytest.fixture
def platform(service: Service) -> Platform:
    return Platform(service.connections.database)


def test_reconcile_finds_the_closings_of_48_hours_without_a_request(service: Service, platform: Platform) -> None:
    fresh, short, old, older, future = platform.converse_often(5)
    short = platform.converse(1)
    platform.close(fresh, short)
    platform.close(old, ago=timedelta(hours=47))
    platform.close(older, ago=timedelta(hours=49))
    platform.close(future, ago=timedelta(hours=-1))
    done = Reconcile(service).run_slice()
    assert (done.seen, done.accepted, done.skipped) == (3, 2, 1)
    assert closed(platform) == {fresh, old}
    again = Reconcile(service).run_slice()
    assert (again.seen, again.accepted) == (3, 0)
    platform.say(short)
    assert Reconcile(service).run_slice().accepted == 1


def test_closing_that_breaks_our_own_code_does_not_hold_up_others(service: Service, platform: Platform) -> None:
    good, broken = platform.converse_often(8), platform.converse()
    platform.close(*good[:4], broken, *good[4:])
    done = Reconcile(service, closings_that_break_on(service, broken)).run_slice()
    assert (done.accepted, done.unresolved) == (8, 1)
    assert closed(platform) == set(good)


def test_closings_whose_date_is_text_or_a_number_are_recorded_as_skipped(service: Service, platform: Platform) -> None:
    text, number, seconds, old, regular = platform.converse_often(5)
    now = datetime.now(UTC)
    dates = {
        text: now.isoformat(),
        number: milliseconds(now) - 60_000,
        seconds: now.timestamp() - 60,
        old: (now - timedelta(days=9)).isoformat(),
    }
    for key, date in dates.items():
        platform.database.conversations.update_one({"_id": key}, {"$set": {"isResolved": True, "resolvedAt": date}})
    platform.close(regular)
    done = Reconcile(service).run_slice()
    assert (done.seen, done.accepted, done.skipped) == (4, 1, 3)
    records = list(platform.database.snapshotleftout.find())
    assert {each["conversationId"]: each["reason"] for each in records} == dict.fromkeys(
        (text, number, seconds), "resolved_at_not_date"
    )
    assert Reconcile(service).run_slice().skipped == 3


@pytest.mark.parametrize(
    "fields", [("organizationId",), ("_id",), ("contactId",), ("_id", "organizationId", "contactId")]
)
def test_closings_whose_ids_are_text_are_accepted(service: Service, platform: Platform, fields: Sequence[str]) -> None:
    Policies(service.connections).set(platform.organization, {"minimumMessages": 2, "channelTypes": ["sms"]})
    conversations = platform.database.conversations
    closing = platform.converse(2)
    platform.close(closing)
    document: Any = conversations.find_one_and_delete({"_id": closing})
    conversations.insert_one(document | {name: str(document[name]) for name in fields})
    platform.database.messages.update_many({}, {"$set": {"conversationId": str(closing)}})
    assert Reconcile(service).run_slice().accepted == 1
    (request,) = platform.requests()
    assert (request["conversationId"], request["contactId"]) == (closing, platform.contact)


class CountedClosings(Closings):
    """Remembers how many closings were submitted."""

    submitted = 0

    def submit(self, closings: Sequence[ClosingReport]) -> ClosingTally:
        self.submitted += len(closings)
        return super().submit(closings)


def test_skipped_closings_are_checked_again_after_growing_waits(service: Service, platform: Platform) -> None:
    platform.close(*platform.converse_often(20, messages=1))
    closings = CountedClosings(service)
    reconcile = Reconcile(service, closings)
    assert reconcile.run_slice().skipped == 20
    assert reconcile.run_slice().skipped == 20
    assert closings.submitted == 40  # in the first 15 minutes
    now = service.clock.now()
    records = closings.skipped.collection
    records.update_many(
        {}, {"$set": {"leftOutAt": now - timedelta(minutes=20), "checkedAt": now - timedelta(minutes=9)}}
    )
    assert reconcile.run_slice().skipped == 20
    assert closings.submitted == 40
    records.update_many({}, {"$set": {"checkedAt": now - timedelta(minutes=11)}})
    assert reconcile.run_slice().skipped == 20
    assert closings.submitted == 60


def test_skipped_closings_are_checked_again_when_the_policy_changes(service: Service, platform: Platform) -> None:
    conversations = platform.converse_often(5, messages=1)
    platform.close(*conversations)
    Reconcile(service).run_slice()
    now = service.clock.now()
    Closings(service).skipped.collection.update_many({}, {"$set": {"leftOutAt": now - timedelta(hours=5)}})
    assert Reconcile(service).run_slice().accepted == 0
    Policies(service.connections).set(platform.organization, {"minimumMessages": 1})
    assert Reconcile(service).run_slice().accepted == 5
    assert closed(platform) == set(conversations)


def test_closing_with_a_field_of_the_wrong_type_is_recorded_as_skipped(service: Service, platform: Platform) -> None:
    conversation = platform.converse()
    platform.close(conversation)
    platform.database.conversations.update_one({"_id": conversation}, {"$set": {"isResolved": "true"}})
    assert Reconcile(service).run_slice().skipped == 1
    counts = Closings(service).skipped.counts([platform.organization])
    assert counts[platform.organization] == {"is_resolved_not_boolean": 1}


def test_reconcile_that_is_out_of_time_continues_where_it_stopped(service: Service, platform: Platform) -> None:
    conversations = platform.converse_often(600)
    for hours in (1, 2):
        platform.close(*conversations[(hours - 1) * 300 : hours * 300], ago=timedelta(hours=hours))
    platform.close(conversations[0])
    counts = [Reconcile(service).run_slice(timedelta(0)) for _ in range(3)]
    assert [(each.seen, each.accepted) for each in counts] == [(500, 500), (300, 100), (500, 0)]
    assert closed(platform) == set(conversations)


def test_reconcile_reads_by_the_index(service: Service, platform: Platform) -> None:
    platform.close(*platform.converse_often(3))
    platform.database.command("profile", 2)
    assert Reconcile(service).run_slice().seen == 3
    platform.database.command("profile", 0)
    ordered = {"op": "query", "command.find": "conversations", "command.sort.resolvedAt": 1}
    reads = list(platform.database["system.profile"].find(ordered))
    assert len(reads) == 2
    for read in reads:
        assert read["planSummary"].startswith("IXSCAN { resolvedAt: 1 }"), read["planSummary"]
    (dated,) = (read for read in reads if "resolvedAt" in read["command"]["filter"])
    assert not dated.get("hasSortStage")
