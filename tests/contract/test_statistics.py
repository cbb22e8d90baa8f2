"""Statistics of snapshots, on a real MongoDB."""

import random
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pymongo
import pytest
from bson import DatetimeMS, Decimal128, ObjectId

from support.faults import failing
from worker.domain.snapshot_filter import SnapshotFilter
from worker.errors import StatisticsTooSlow
from worker.service import Service
from worker.statistics.counts import count
from worker.statistics.figures import Statistics, Values
from worker.statistics.measuring import Limits, measure

LIMITS = Limits(sample=1000, sample_seconds=60, count_seconds=60)
QUALITIES, TAGS = ("good", "bad", None), ("billing", "refund", "vip")
TEXT = "Where is my parcel? I have been waiting for a week."


def snapshot(organization: ObjectId, number: int, **more: Any) -> dict[str, Any]:
    messages = [
        {"id": str(each), "content": TEXT, "sender": ("contact", "user")[each % 2], "senderType": "HUMAN"}
        for each in range(number % 8)
    ]
    return {
        "organizationId": organization,
        "contactId": ObjectId(),
        "messages": messages,
        "messageCount": len(messages),
        "contentHash": f"{number % 8:064x}",
        "conversationStartDate": datetime(2026, 1 + number % 3, 1, tzinfo=UTC),
        "createdAt": datetime(2026, 11, 1 + number % 28, tzinfo=UTC),
        "quality": QUALITIES[number % 3],
        "category": f"c{number % 60}",
        "tags": list(TAGS[: number % 4]),
        "isArchived": False,
        **more,
    }


@pytest.fixture
def organization(service: Service) -> ObjectId:
    """An organization with 300 snapshots, and one with a single one."""
    mine, another = ObjectId(), ObjectId()
    collection = service.connections.database.trainingsnapshots
    collection.insert_many([snapshot(mine, number) for number in range(300)])
    collection.insert_one(snapshot(another, 5, quality="another's"))
    return mine


def counted(values: Values) -> dict[str | None, int]:
    return {each.value: each.snapshots for each in values.values}


def of(service: Service, organization: ObjectId, limits: Limits = LIMITS, **filters: Any) -> Statistics:
    return measure(service.connections, organization, SnapshotFilter.read(filters), limits)


def test_figures_equal_a_count_by_hand(service: Service, organization: ObjectId) -> None:
    figures = of(service, organization)
    assert figures.snapshots == 300
    assert counted(figures.qualities) == dict.fromkeys(QUALITIES, 100)
    assert counted(figures.tags) == {"billing": 225, "refund": 150, "vip": 75, None: 75}
    assert len(figures.categories.values) == 50
    assert figures.categories.more
    assert counted(figures.conversation_months) == {"2026-01": 100, "2026-02": 100, "2026-03": 100}
    assert counted(figures.created_months) == {"2026-11": 300}
    expected = Counter(number % 8 for number in range(300))
    assert {each.least: each.snapshots for each in figures.messages.buckets if each.snapshots} == {
        0: expected[0],
        1: expected[1],
        2: sum(expected[each] for each in (2, 3, 4, 5)),
        6: expected[6] + expected[7],
    }
    assert (figures.messages.median, figures.messages.p90, figures.messages.longest) == (3, 7, 7)
    found = figures.duplicates
    assert (found.groups, found.snapshots, found.surplus) == (8, 300, 292)
    sample = figures.sample
    assert (sample.snapshots, sample.complete) == (300, True)
    assert sample.characters.longest == 7 * len(TEXT)
    assert sample.languages is not None
    assert counted(sample.languages) == {"en": 300 - expected[0], "und": expected[0]}
    assert counted(sample.channels) == {None: 300}
    for each in sample.formats:
        assert each.usable + sum(reason.snapshots for reason in each.skipped) == 300
    (jsonl,) = (each for each in sample.formats if each.format == "jsonl")
    assert (jsonl.usable, jsonl.rows, jsonl.skipped) == (300, 300, [])
    (messages,) = (each for each in sample.formats if each.format == "messages")
    assert messages.usable == 300 - expected[0] - expected[1]


def test_filters_select_what_the_list_selects(service: Service, organization: ObjectId) -> None:
    assert of(service, organization, quality="good", tag="vip").snapshots == 25
    assert of(service, organization, LIMITS, **{"from": "2026-11-28"}).snapshots == 10
    assert of(service, organization, isArchived="true").snapshots == 0
    nothing = of(service, ObjectId())
    assert (nothing.snapshots, nothing.sample.complete, nothing.messages.median) == (0, True, None)
    assert all(each.usable == 0 for each in nothing.sample.formats)


def test_large_selection_is_sampled_at_random_and_says_so(service: Service, organization: ObjectId) -> None:
    figures = of(service, organization, Limits(sample=120, sample_seconds=60, count_seconds=60))
    sample = figures.sample
    assert (figures.snapshots, sample.snapshots, sample.complete) == (300, 120, False)
    assert sample.characters.snapshots == 120
    assert sample.languages is not None
    # A sample without repeats of 38 silent and 262 speaking snapshots; 0 or all 38 are next to impossible.
    assert 0 < counted(sample.languages)["und"] < 38
    cut_short = of(service, organization, Limits(sample=300, sample_seconds=0, count_seconds=60)).sample
    assert cut_short.snapshots == sum(counted(cut_short.channels).values()) == 1
    assert not cut_short.complete


def test_channel_is_the_conversations_else_the_contacts(service: Service) -> None:
    database = service.connections.database
    organization = ObjectId()
    ids = [ObjectId() for _ in range(5)]
    mine = {"organizationId": organization}
    database.conversations.insert_one({"_id": ids[0], **mine, "channelType": "whatsapp"})
    contacts: list[dict[str, Any]] = [
        {"channelType": "sms"},
        {"channelType": None, "channelTypes": ["email", "sms"]},
        {"channelTypes": 7},
    ]
    database.contacts.insert_many({"_id": key, **mine, **each} for key, each in zip(ids[1:4], contacts, strict=True))
    database.contacts.insert_one({"_id": ids[4], "organizationId": ObjectId(), "channelType": "another's"})
    parents: list[dict[str, Any]] = [
        {"conversationId": ids[0], "contactId": ids[1]},
        *({"contactId": each} for each in ids[1:]),
    ]
    database.trainingsnapshots.insert_many([snapshot(organization, 2, **each) for each in parents])
    channels = counted(of(service, organization).sample.channels)
    assert channels == {"whatsapp": 1, "sms": 1, "email": 1, None: 2}


def test_snapshots_of_the_platform_with_odd_fields_are_counted(service: Service) -> None:
    """They may lack any field, or have values that only the platform's model permits."""
    organization = ObjectId()
    odd: list[dict[str, Any]] = [
        {},
        {"messages": None, "messageCount": None, "tags": None, "createdAt": None, "quality": None},
        {"messages": [None, 5, {}, {"content": 7}], "messageCount": "three", "tags": "vip", "quality": ["good"]},
        {"messages": "none", "messageCount": float("nan"), "createdAt": "yesterday", "tags": [1, "vip"]},
        {"messageCount": 2.0, "createdAt": DatetimeMS(2**60), "conversationStartDate": DatetimeMS(-(2**60))},
        {"messageCount": Decimal128("5"), "tags": ["vip", "vip", 1, 2]},
        {"messages": [{"content": "\u0000 half"}], "contentHash": 5, "contactId": {"a": 1}, "conversationId": "x"},
    ]
    service.connections.database.trainingsnapshots.insert_many(
        [{"organizationId": organization, "isArchived": False, **each} for each in odd]
    )
    figures = of(service, organization)
    assert figures.snapshots == figures.sample.snapshots == 7
    assert counted(figures.qualities) == {None: 7}
    assert counted(figures.tags) == {None: 6, "vip": 3}
    assert counted(figures.created_months) == counted(figures.conversation_months) == {None: 7}
    assert (figures.messages.snapshots, figures.messages.longest) == (1, 2)
    assert figures.duplicates.groups == 0


def test_count_that_takes_too_long_ends_with_what_to_do(
    service: Service, organization: ObjectId, mongo_client: pymongo.MongoClient[Any]
) -> None:
    with (
        failing(mongo_client, ["aggregate"], errorCode=50),  # MaxTimeMSExpired
        pytest.raises(StatisticsTooSlow, match="Narrow the selection"),
    ):
        of(service, organization)


def test_figures_are_of_one_moment(service: Service, organization: ObjectId, monkeypatch: pytest.MonkeyPatch) -> None:
    """Snapshots that are added while it counts are in none of the counts."""
    collection = service.connections.database.trainingsnapshots

    def count_and_add(selection: Any) -> Any:
        counted_ = count(selection)
        collection.insert_many([snapshot(organization, random.randrange(8)) for _ in range(50)])
        return counted_

    monkeypatch.setattr("worker.statistics.measuring.count", count_and_add)
    figures = of(service, organization)
    assert figures.snapshots == figures.sample.snapshots == figures.duplicates.snapshots == 300
