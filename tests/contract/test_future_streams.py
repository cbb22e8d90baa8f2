"""Stream ids far in the future, which a producer may choose: later entries and events are still taken."""

from typing import Any

import pytest
import redis
from structlog.testing import capture_logs

from support.intake import EVENTS, GROUP, REJECTED, STREAM, Producer, listening
from support.waiting import eventually
from worker.metrics.gauges import read_broker
from worker.service import Service
from worker.startup.redis_permissions import acl_rules
from worker.stores.key_types import MARKER_KEY, moved_keys
from worker.stores.stream_ids import LAST_PART, move_future_streams

GREATEST, IN_2286 = f"{LAST_PART}-{LAST_PART}", "9999999999999-0"


def move(service: Service) -> None:
    move_future_streams(service.connections.redis, service.settings)


def requests(service: Service) -> list[Any]:
    return sorted(entry["requestId"] for entry in service.connections.database.snapshotrequests.find())


@pytest.mark.parametrize("greatest", [GREATEST, IN_2286])
def test_entries_after_one_with_an_id_of_the_far_future_are_accepted(
    producer: Producer, service: Service, greatest: str
) -> None:
    with listening(service):
        producer.request("before")
        producer.redis.xadd(STREAM, {"type": "unknown"}, id=greatest)
        eventually(lambda: greatest in producer.rejected() and not producer.pending())
        assert read_broker(service.connections).intake
        move(service)
        assert producer.request("after") < "3"
        producer.wait_until_settled()
    assert requests(service) == ["after", "before"]
    assert list(producer.rejected()) == [greatest]
    (moved,) = moved_keys(service.connections.redis)
    assert producer.redis.xlen(moved) == 2
    assert 0 < producer.redis.ttl(moved) <= service.settings.events_retention.total_seconds()


def test_intake_stream_is_moved_only_after_all_its_entries_are_processed(producer: Producer, service: Service) -> None:
    producer.redis.xadd(STREAM, {"type": "unknown"}, id=IN_2286)
    move(service)
    producer.redis.xgroup_create(STREAM, GROUP, id="0")
    move(service)
    producer.redis.xreadgroup(GROUP, "hangs", {STREAM: ">"})
    move(service)
    assert producer.redis.xlen(STREAM) == 1
    producer.redis.xack(STREAM, GROUP, IN_2286)
    move(service)
    assert not producer.redis.exists(STREAM)


def test_events_and_rejected_entries_can_be_added_after_the_greatest_id(producer: Producer, service: Service) -> None:
    producer.redis.set(MARKER_KEY, "known")
    for stream in (EVENTS, REJECTED):
        producer.redis.xadd(stream, {"event": "{}"}, id=GREATEST)
    move(service)
    for stream in (EVENTS, REJECTED):
        assert producer.redis.xadd(stream, {"event": "{}"}) < "3"
    assert not producer.redis.exists(MARKER_KEY), "the next sweep would not emit the former events again"


def test_streams_whose_ids_are_from_the_present_stay(producer: Producer, service: Service) -> None:
    for stream in (EVENTS, REJECTED, STREAM):
        producer.redis.xadd(stream, {"event": "{}"})
    move(service)
    assert all(producer.redis.exists(stream) for stream in (EVENTS, REJECTED, STREAM))
    assert not list(moved_keys(service.connections.redis))


@pytest.mark.usefixtures("changeable_redis")
def test_redis_user_from_before_this_check_logs_nothing_each_second(service: Service) -> None:
    client: Any = service.connections.redis
    client.xadd(STREAM, {"type": "unknown"})
    rules = [rule for rule in acl_rules() if rule != "+xinfo|stream"]
    client.execute_command("ACL", "SETUSER", "former", "on", ">s3cret", *rules)
    try:
        place = client.connection_pool.connection_kwargs
        with (
            redis.Redis(host=place["host"], port=place["port"], username="former", password="s3cret") as user,
            capture_logs() as records,
        ):
            with pytest.raises(redis.exceptions.NoPermissionError):
                user.xinfo_stream(STREAM)
            move_future_streams(user, service.settings)
    finally:
        client.execute_command("ACL", "DELUSER", "former")
    assert records == []
