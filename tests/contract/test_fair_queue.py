"""One organization's flood of Celery messages does not delay the requests of the others."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from bson import ObjectId

from support.ledger import Bench
from support.malformed import envelope, raw
from support.stack import Running, stack
from support.waiting import eventually
from worker.celery_support.fair_queue import divert_floods
from worker.celery_support.oldest_messages import MAX_MESSAGES
from worker.settings import Settings

INTERACTIVE, BULK = "snapshots", "snapshots.bulk"
A, B = ObjectId(), ObjectId()


def request(organization: object, request_id: str, **fields: Any) -> bytes:
    body = {"organizationId": str(organization), "contactId": str(ObjectId()), "requestId": request_id, **fields}
    return raw(envelope("snapshots.request", [body]))


def push(client: Any, *messages: bytes) -> None:
    """Push messages as producers do, the first one first."""
    with client.pipeline(transaction=False) as pipeline:
        for message in messages:
            pipeline.lpush(INTERACTIVE, message)
        pipeline.execute()


def messages(client: Any, queue: str) -> list[bytes]:
    """The messages in a queue, the oldest one first."""
    return list(reversed(client.lrange(queue, 0, -1)))


def test_flood_moves_in_its_order_and_the_messages_of_others_stay_in_theirs(bench: Bench) -> None:
    client: Any = bench.connections.redis
    flood = [request(A, f"a{number}") for number in range(2 * MAX_MESSAGES)]
    closing = raw(envelope("conversations.resolved", [{"organizationId": str(B), "conversationId": str(ObjectId())}]))
    others = [request(B, "b0"), raw(envelope("snapshots.create", [[str(ObjectId())]])), closing, b"no message"]
    push(client, *flood[:50], *others, *flood[50:])
    moved = divert_floods(client)
    assert moved > len(flood) - 100
    assert messages(client, INTERACTIVE) == others + flood[moved:]
    assert messages(client, BULK) == flood[:moved]


def test_requests_without_an_organization_are_a_flood_of_their_own(bench: Bench) -> None:
    client: Any = bench.connections.redis
    bodies: list[list[Any]] = [[], [5], [{}], [{"organizationId": [1]}]]
    faulty = [raw(envelope("snapshots.request", args)) for args in bodies] * 50
    push(client, *faulty, request(B, "b0"))
    assert divert_floods(client) == len(faulty)
    assert len(messages(client, INTERACTIVE)) == 1


def test_flood_is_known_by_its_organization_however_it_is_written(bench: Bench) -> None:
    client: Any = bench.connections.redis
    spelt = [str(A).upper()[:number] + str(A)[number:] for number in range(25)] * 8
    push(client, *(request(each, f"a{number}") for number, each in enumerate(spelt)), request(B, "b0"))
    assert divert_floods(client) == len(spelt)
    assert len(messages(client, INTERACTIVE)) == 1


def test_few_messages_stay(bench: Bench) -> None:
    client: Any = bench.connections.redis
    push(client, *(request(A, f"a{number}") for number in range(99)))
    assert divert_floods(client) == 0
    assert client.llen(INTERACTIVE) == 99


@pytest.fixture
def running(settings: Settings, tmp_path: Any) -> Iterator[Running]:
    """A worker and beat."""
    with stack(settings, tmp_path) as made:
        yield made


def test_requests_behind_a_flood_of_celery_messages_are_done_long_before_its_end(running: Running) -> None:
    bench, ledger = running.bench, running.database.snapshotrequests
    contact = bench.contact()
    bench.conversation(contact)
    flood, accepted = 3000, {"organizationId": A}
    (key,) = bench.chunk(1)
    push(running.redis, *(request(A, f"a{number}") for number in range(flood)))
    push(running.redis, request(bench.organization, "b0", contactId=str(contact)))
    running.publish([key])
    running.finished([key], 60)
    eventually(
        lambda: ledger.find_one({"organizationId": bench.organization, "requestId": "b0", "status": "completed"})
    )
    assert ledger.count_documents(accepted) < flood / 2
    assert "messages_diverted" in running.logs()
    assert ledger.find_one({**accepted, "queue": BULK})
    for each in messages(running.redis, BULK):
        assert json.loads(each)["headers"]["task"] in {"snapshots.request", "snapshots.create"}
