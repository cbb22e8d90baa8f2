"""The HTTP API while a server is down."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpx
import pytest
from bson import ObjectId

from support.contacts import Contact, contact_with
from support.http import SNAPSHOTS, api, client, token
from support.stack import Running, stack
from support.waiting import allowed, eventually
from worker.local.embedded import Options, Servers, embedded
from worker.settings import load


@dataclass
class Outage:
    """Servers that a test may stop."""

    servers: Servers
    running: Running
    contact: Contact
    http: httpx.Client

    def post(self, key: str) -> httpx.Response:
        body = {"contactId": str(self.contact.id), "notes": key}
        return self.http.post(SNAPSHOTS, json=body, headers={"Idempotency-Key": key})

    def snapshots(self, keys: str) -> int:
        """The number of snapshots whose request id begins with `keys`."""
        return self.running.database.trainingsnapshots.count_documents({"requestId": {"$regex": f"^{keys}"}})


@pytest.fixture(scope="module")
def outage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outage]:
    folder = tmp_path_factory.mktemp("outage")
    with embedded(options=Options(cache_gb=0.25)) as servers:
        settings = load(redis_url=servers.redis_url, mongo_url=servers.mongo_url, mongo_database="outage")
        # A rate limit, so that its Redis is in the way too.
        env = {"API_WAIT": "1", "API_RATE_LIMIT": "100000"}
        with stack(settings, folder) as running, api(settings, folder, env) as (url, _):
            contact = contact_with(running.database, 3)
            with client(url, token(contact.organization)) as http:
                yield Outage(servers, running, contact, http)


def test_posts_are_accepted_while_redis_is_down_and_processed_after_its_return(outage: Outage) -> None:
    assert outage.post("before").status_code == 201
    assert outage.servers.valkey is not None
    outage.servers.valkey.stop()
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda number: outage.post(f"during-{number}"), range(20)))
    assert {each.status_code for each in answers} == {202}
    degraded = {"status": "degraded", "mongo": True, "redis": False, "workers": False}
    assert outage.http.get("/readyz").json() == degraded
    assert outage.http.get(SNAPSHOTS).status_code == 200
    outage.servers.valkey.start()
    outage.servers.valkey.wait_until_ready()
    places = [each.headers["location"] for each in answers]
    eventually(lambda: all(outage.http.get(each).status_code == 200 for each in places), 45, 0.2)
    assert outage.snapshots("during") == 20
    assert outage.post("after").status_code == 201


def test_answer_is_503_with_the_key_to_repeat_while_mongodb_is_down(outage: Outage) -> None:
    assert outage.servers.mongod is not None
    outage.servers.mongod.kill()
    started = time.monotonic()
    paths = ("/healthz", "/readyz", SNAPSHOTS, f"{SNAPSHOTS}/{ObjectId()}", "/api/training/export")
    with ThreadPoolExecutor() as pool:
        reading = pool.map(lambda path: outage.http.get(path).status_code, paths)
        answer = outage.http.post(SNAPSHOTS, json={"contactId": str(outage.contact.id)})
        assert list(reading) == [200, 503, 503, 503, 503]
    assert time.monotonic() - started < allowed(20)
    assert answer.status_code == 503
    key = answer.json()["idempotencyKey"]
    assert answer.headers["idempotency-key"] == key
    assert answer.headers["retry-after"]
    outage.servers.mongod.start()
    outage.servers.mongod.wait_until_ready(60)

    def repeated() -> bool:
        body = {"contactId": str(outage.contact.id)}
        again = outage.http.post(SNAPSHOTS, json=body, headers={"Idempotency-Key": key})
        return again.status_code in (200, 201)

    eventually(repeated, 60)
    assert outage.snapshots(key) == 1
