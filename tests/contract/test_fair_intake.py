"""One organization's flood of the intake stream does not delay the entries of the others."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import pytest
from bson import ObjectId

from support.intake import GROUP, STREAM, Producer, listening
from support.waiting import eventually
from worker.bootstrap import build
from worker.intake.stream import IntakeStream
from worker.service import NewRequest, Service
from worker.settings import Settings

FLOOD = 3000


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"chunk_size": 50})


@pytest.fixture
def service(settings: Settings) -> Iterator[Service]:
    service = build(settings)
    yield service
    service.connections.close()


def flood(producer: Producer) -> list[str]:
    return producer.requests([f"a{number}" for number in range(FLOOD)])


def test_an_entry_behind_anothers_flood_is_accepted_early_and_enqueued_before_it(
    producer: Producer, service: Service
) -> None:
    flood(producer)
    few = ObjectId()
    producer.requests(["b0", "b1"], organizationId=str(few))
    with listening(service):
        producer.wait_until_settled()
    entries = list(service.ledger.collection.find().sort("_id", 1))
    assert len(entries) == FLOOD + 2
    places = [place for place, entry in enumerate(entries) if entry["organizationId"] == few]
    assert max(places) < 2 * 5 * service.settings.chunk_size  # within the first two batches
    assert {entry["queue"] for entry in entries if entry["organizationId"] == few} == {"snapshots"}
    bulk = [entry for entry in entries if entry["queue"] == "snapshots.bulk"]
    assert len(bulk) >= FLOOD - 16  # all but a last, small batch
    of_a = [entry["requestId"] for entry in entries if entry["organizationId"] != few]
    assert of_a == [f"a{number}" for number in range(FLOOD)]


def test_a_listener_that_stops_finishes_what_it_has_read_ahead(producer: Producer, service: Service) -> None:
    flood(producer)
    with listening(service):
        eventually(lambda: service.ledger.collection.count_documents({}) > 0)
    assert producer.pending() == 0


def test_entries_that_wait_in_a_listener_are_not_claimed_by_another(producer: Producer, service: Service) -> None:
    producer.requests(["a", "b"])
    first, second = (IntakeStream(service.connections, name) for name in ("first", "second"))
    first.read_new(10)  # creates the group
    ids = [entry.id for entry in first.read_new(10)[0]]

    def idle() -> int:
        pending = producer.redis.xpending_range(STREAM, GROUP, "-", "+", 10)
        return min(int(each["time_since_delivered"]) for each in pending)

    eventually(lambda: idle() > 500)
    first.reset_idle(ids)
    assert second.claim("0-0", 10, timedelta(milliseconds=500)) == ("0-0", [], [])


def test_the_backlog_of_a_dead_listener_is_taken_over_in_chunks(
    producer: Producer, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = build(settings.model_copy(update={"listener_idle": timedelta(milliseconds=300)}))
    producer.redis.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
    ids = flood(producer)
    producer.redis.xreadgroup(GROUP, "dead", {STREAM: ">"})
    IntakeStream(service.connections, "dead").mark_held(ids[10:])
    accept, sizes = service.accept, []

    def counting(asked: Sequence[NewRequest]) -> Any:
        sizes.append(len(asked))
        return accept(asked)

    monkeypatch.setattr(service, "accept", counting)
    with listening(service):
        producer.wait_until_settled()
    assert sum(sizes) == FLOOD
    assert len(sizes) <= 10 + FLOOD / 50
    assert sizes.count(1) >= 10  # those that may have ended the listener
    assert not producer.redis.exists(f"{STREAM}:starts", f"{STREAM}:held")
    service.connections.close()
