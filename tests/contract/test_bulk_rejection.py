"""Many malformed messages in a queue: they are rejected together, and the others stay in their order."""

import json
from typing import Any

import pytest
import redis

from support.ledger import Bench
from support.malformed import body_of, envelope, raw
from worker.celery_support import oldest_messages
from worker.celery_support.bulk_rejection import reject_oldest
from worker.celery_support.message_format import fault
from worker.celery_support.payloads import carrier, read_payload
from worker.startup.redis_permissions import acl_rules

QUEUE, REJECTED = "snapshots", "snapshots:rejected"
VALID = [raw(envelope(headers={"id": f"valid {number}"})) for number in range(3)]
UNKNOWN_TASK = raw(envelope("no.such.task"))
WRONG_CALL = raw(envelope(body=body_of([], {"ids": 5})))


class OtherWorkers:
    """A client between whose two commands other programs change the queue."""

    def __init__(self, client: Any, change: Any) -> None:
        self._client, self._change = client, change

    def eval(self, script: str, *arguments: Any) -> Any:
        if script == oldest_messages._MOVE:
            self._change(self._client)
        return self._client.eval(script, *arguments)


def check_call(name: str, body: bytes) -> None:
    if name == "no.such.task" or json.loads(body)[1]:
        raise fault("headers.task", "is not the name of a task, or it takes no named arguments")


def push(client: Any, *messages: bytes | str) -> None:
    """Push messages as producers do, the first one first."""
    client.lpush(QUEUE, *messages)


def left(client: Any) -> list[bytes]:
    """The messages in the queue, the oldest one first."""
    return list(reversed(client.lrange(QUEUE, 0, -1)))


def recorded(client: Any) -> list[str]:
    return [json.loads(fields[b"entry"])["message"] for _, fields in client.xrange(REJECTED)]


def test_malformed_messages_are_recorded_and_the_others_keep_their_order(bench: Bench) -> None:
    client: Any = bench.connections.redis
    push(client, "1", VALID[0], "2", "3", UNKNOWN_TASK, VALID[1], "4", WRONG_CALL, VALID[2])
    assert reject_oldest(client, QUEUE, REJECTED, check_call) == 6
    assert left(client) == VALID
    assert [each for each in recorded(client) if len(each) == 1] == ["1", "2", "3", "4"]
    _, fields = client.xrange(REJECTED)[0]
    assert fields[b"origin"].startswith(b"task:")
    assert json.loads(fields[b"reason"])["code"] == "invalid_message"


def test_messages_that_a_worker_could_not_record_are_left_to_the_workers(bench: Bench) -> None:
    client: Any = bench.connections.redis
    put_back = json.dumps(carrier(b"x", QUEUE, fault("message", "is faulty"))).encode()
    assert read_payload(put_back, QUEUE)["headers"]["errors"][0]["message"] == "is faulty"
    push(client, put_back)
    assert reject_oldest(client, QUEUE, REJECTED, check_call) == 0
    assert left(client) == [put_back]


@pytest.mark.parametrize("taken", [0, 1, 3, 8])
def test_messages_that_others_take_in_between_are_not_recorded(bench: Bench, taken: int) -> None:
    client: Any = bench.connections.redis
    push(client, *"1223456", VALID[0])

    def change(client: Any) -> None:
        for _ in range(taken):
            client.rpop(QUEUE)
        push(client, VALID[1])

    reject_oldest(OtherWorkers(client, change), QUEUE, REJECTED, check_call)
    assert recorded(client) == list("1223456")[taken:]
    assert left(client) == VALID[taken // 8 : 2]


def test_nothing_is_recorded_twice_if_the_queue_changes_at_its_end(bench: Bench) -> None:
    client: Any = bench.connections.redis
    push(client, *"123456")
    put_back = ["put back"]

    def change(client: Any) -> None:
        while put_back:
            client.rpush(QUEUE, put_back.pop())

    other = OtherWorkers(client, change)
    assert reject_oldest(other, QUEUE, REJECTED, check_call) == 7
    assert sorted(recorded(client)) == ["1", "2", "3", "4", "5", "6", "put back"]


def test_redis_without_memory_changes_nothing(bench: Bench, changeable_redis: None) -> None:
    client: Any = bench.connections.redis
    push(client, *"123")
    client.config_set("maxmemory", "1")
    try:
        with pytest.raises(redis.RedisError):
            reject_oldest(client, QUEUE, REJECTED, check_call)
    finally:
        client.config_set("maxmemory", "0")
    assert left(client) == [b"1", b"2", b"3"]
    assert not recorded(client)


def test_documented_redis_user_may_do_it(bench: Bench, changeable_redis: None) -> None:
    client: Any = bench.connections.redis
    push(client, "1", VALID[0])
    client.execute_command("ACL", "SETUSER", "restricted", "on", ">s3cret", *acl_rules())
    try:
        place = client.connection_pool.connection_kwargs
        with redis.Redis(host=place["host"], port=place["port"], username="restricted", password="s3cret") as user:
            assert reject_oldest(user, QUEUE, REJECTED, check_call) == 1
    finally:
        client.execute_command("ACL", "DELUSER", "restricted")
    assert left(client) == VALID[:1]
