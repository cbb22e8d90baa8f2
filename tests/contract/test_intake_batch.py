"""A batch of intake entries: the failure of one entry does not affect the others."""

import json
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import pytest
from bson import ObjectId

from support.intake import Producer
from worker.bootstrap import build
from worker.errors import AcceptUnknown, BrokerUnavailable
from worker.intake.batch import Intake
from worker.intake.stream import IntakeStream
from worker.service import NewRequest, Service
from worker.settings import Settings
from worker.stores import indexes
from worker.telemetry.counters import IntakeCounts


@pytest.fixture
def service(settings: Settings) -> Iterator[Service]:
    # On a busy machine, printing tracebacks alone takes longer than the tests' run deadline.
    service = build(settings.model_copy(update={"run_deadline": timedelta(minutes=2)}))
    indexes.ensure(service.connections)
    yield service
    service.connections.close()


@pytest.fixture
def stream(service: Service) -> IntakeStream:
    stream = IntakeStream(service.connections, "me")
    stream.read_new(1)  # creates the group
    return stream


def intake(service: Service, stream: IntakeStream) -> Intake:
    return Intake(service, stream, IntakeCounts())


def accepted(service: Service) -> list[str]:
    return sorted(each["requestId"] for each in service.ledger.collection.find())


def break_on(service: Service, name: str, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes our own code fail for every chunk that contains this request."""
    accept = service.accept

    def breaking(asked: Sequence[NewRequest]) -> Any:
        if any(each.request_id == name for each in asked):
            raise error
        return accept(asked)

    monkeypatch.setattr(service, "accept", breaking)


@pytest.mark.parametrize("error", [AcceptUnknown(), ZeroDivisionError()])
def test_an_entry_that_breaks_its_chunk_stays_pending_and_all_others_are_accepted(
    producer: Producer, service: Service, stream: IntakeStream, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"r{number}" for number in range(20)]
    added = producer.requests(names)
    break_on(service, "r7", error, monkeypatch)
    assert intake(service, stream)(stream.read_new(100)[0]) == 1
    assert accepted(service) == sorted(set(names) - {"r7"})
    assert stream.pending_ids("0", 100) == [added[7]]
    assert producer.rejected() == {}


def test_an_entry_that_still_breaks_our_code_after_a_minute_is_rejected_but_an_unknown_accept_never(
    producer: Producer, service: Service, stream: IntakeStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds, _ = producer.redis.time()
    entry = {"type": "snapshot.requested", "data": json.dumps(producer.body("r"))}
    for error, left in ((AcceptUnknown(), 1), (ZeroDivisionError(), 0)):
        monkeypatch.undo()
        producer.redis.delete("snapshots:requests")
        stream.read_new(1)
        producer.redis.xadd("snapshots:requests", entry, id=f"{(seconds - 61) * 1000}-0")
        break_on(service, "r", error, monkeypatch)
        assert intake(service, stream)(stream.read_new(10)[0]) == left
    (rejected,) = producer.rejected().values()
    assert rejected["reason"]["code"] == "unexpected"


def test_an_entry_whose_acknowledgement_fails_comes_again_and_makes_no_second_request(
    producer: Producer, service: Service, stream: IntakeStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    added = producer.requests(["r"])

    def refuse(*_: Any) -> Any:
        raise BrokerUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(stream, "settle", refuse)
        with pytest.raises(BrokerUnavailable):
            intake(service, stream)(stream.read_new(10)[0])
    assert accepted(service) == ["r"]
    assert stream.pending_ids("0", 10) == added
    assert intake(service, stream)(stream.fetch_again(added)) == 0
    assert accepted(service) == ["r"]
    assert producer.pending() == 0
    assert sum(map(len, producer.messages().values())) == 1


def test_pending_entries_that_were_deleted_are_acknowledged(
    producer: Producer, service: Service, stream: IntakeStream
) -> None:
    first, _ = producer.requests(["gone", "there"])
    stream.read_new(10)
    producer.redis.xdel("snapshots:requests", first)
    assert intake(service, stream)(stream.fetch_again(stream.pending_ids("0", 10))) == 0
    assert accepted(service) == ["there"]
    assert producer.pending() == 0


def test_a_single_request_behind_a_backlog_goes_to_the_bulk_queue(
    producer: Producer, service: Service, stream: IntakeStream
) -> None:
    producer.requests(["r"])
    assert intake(service, stream)(stream.read_new(10)[0], waiting=50) == 0
    (entry,) = service.ledger.collection.find()
    assert entry["queue"] == "snapshots.bulk"
    assert producer.messages() == {"snapshots": [], "snapshots.bulk": [[str(entry["_id"])]]}


@pytest.mark.parametrize(("behind", "sizes"), [(3, [10, 10, 10, 10]), (4, [40])])
def test_a_batch_behind_a_backlog_is_not_split(
    producer: Producer, service: Service, stream: IntakeStream, behind: int, sizes: list[int]
) -> None:
    """Small chunks are for workers that are idle; behind a backlog they would only cost more."""
    for _ in range(behind):
        service.publish("snapshots.bulk", [[str(ObjectId())]], service.clock.now())
    producer.requests([f"r{number}" for number in range(40)])
    assert intake(service, stream)(stream.read_new(100)[0]) == 0
    messages = producer.messages()["snapshots.bulk"]
    assert sorted(map(len, messages)) == sorted([1] * behind + sizes)
