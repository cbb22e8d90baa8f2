"""An erasure in the middle of many requests for its contact, under kills and a flush, leaves nothing of the person."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import bson
import httpx
import pytest
import redis
from bson import ObjectId

from support.erasing import EMAIL, PHONE, in_append_only_file, person, places_of, with_keys
from support.exporting import Exporting
from support.http import SNAPSHOTS, api, client, token
from support.intake import listener_process, listeners
from support.ledger import Bench
from support.pipeline import run_accepted
from support.stack import Running, kill_pool, stack
from support.waiting import eventually
from worker.backfills.accepting import accept_backfill
from worker.erasure.receipt import check, encode, read_public_key
from worker.jobs.store import Jobs
from worker.local.embedded import Servers
from worker.settings import PREFIX, Settings
from worker.stores.stats import identities

QUICK = {"RUN_DEADLINE": "1s", "SWEEP_INTERVAL": "1s", "RETRY_FLOOR": "0.2s", "PARENT_WAIT": "2s"}
NAME = "Zephyrine Quillfeather"
EACH = 500
"""Requests for the contact through each of the four entry points."""


@dataclass
class Site:
    """What runs, and the ways in."""

    running: Running
    http: httpx.Client
    contact: ObjectId
    conversations: list[ObjectId]
    errors: list[str] = field(default_factory=list)

    @property
    def bench(self) -> Bench:
        return self.running.bench

    def body(self, number: int, **more: Any) -> dict[str, Any]:
        ids = {"contactId": str(self.contact), "conversationId": str(self.conversations[number % 20])}
        return {**ids, "notes": f"{NAME} {EMAIL} {PHONE} {number}", **more}

    def full(self, number: int, **more: Any) -> dict[str, Any]:
        return self.body(number, organizationId=str(self.bench.organization), **more)

    def post(self, number: int) -> int:
        return self.http.post(SNAPSHOTS, json=self.body(number), headers={"Prefer": "respond-async"}).status_code

    def add(self, number: int) -> None:
        data = bson.json_util.dumps(self.full(number))
        self.running.redis.xadd("snapshots:requests", {"type": "snapshot.requested", "data": data})

    def send(self, number: int) -> None:
        self.running.app.send_task("snapshots.request", args=[self.full(number)], queue="snapshots", ignore_result=True)

    def close(self, number: int) -> None:
        key = self.conversations[number % 20]
        now = datetime.now(UTC)
        closed = {"$set": {"isResolved": True, "resolvedAt": now}}
        self.bench.database.conversations.update_one({"_id": key}, closed)
        data = bson.json_util.dumps({"organizationId": str(self.bench.organization), "conversationId": str(key)})
        self.running.redis.xadd("snapshots:requests", {"type": "conversation.resolved", "data": data})

    def ways(self) -> list[Callable[[int], Any]]:
        return [self.post, self.add, self.send, self.close]


@pytest.fixture
def site(servers: Servers, settings: Settings, tmp_path: Path) -> Iterator[Site]:
    own = with_keys(settings, tmp_path)
    assert own.erasure_key
    keys = {
        "ERASURE_KEY": own.erasure_key.get_secret_value(),
        "ERASURE_SIGNING_KEY": str(own.erasure_signing_key),
        "EXPORTS_URL": str(own.exports_url),
    }
    env = {**QUICK, **keys, "SETTLE_SECONDS": "0"}
    with ExitStack() as both:
        running = both.enter_context(stack(own, tmp_path, env))
        url, _ = both.enter_context(api(own, tmp_path, env))
        more = {f"{PREFIX}{name}": value for name, value in env.items()}
        both.enter_context(listeners(listener_process(own, tmp_path / "listener.log", more)))
        bench = running.bench
        contact = person(bench)
        bench.database.contacts.update_one(
            {"_id": contact}, {"$set": dict(zip(["firstName", "lastName"], NAME.split(), strict=True))}
        )
        http = both.enter_context(client(url, token(bench.organization)))
        yield Site(running, http, contact, [bench.conversation(contact, 2) for _ in range(20)])


def shoot(site: Site, way: Callable[[int], Any], erased: threading.Event) -> None:
    for number in range(EACH):
        with suppress(redis.RedisError, OSError, httpx.HTTPError):
            way(number)
        if number == EACH // 2:
            erased.wait(60)


@pytest.mark.acceptance
@pytest.mark.timeout(280)
def test_nothing_of_the_person_is_left_and_nobody_comes_back(site: Site, tmp_path: Path) -> None:
    bench, running = site.bench, site.running
    other = bench.contact()
    kept = bench.accepted(*(bench.asked(other, conversationId=bench.conversation(other)) for _ in range(20)))
    (mine,) = bench.accepted(bench.asked(site.contact, conversationId=site.conversations[0], notes=NAME))
    run_accepted(bench.service)
    before = {key: bson.encode(document) for key, document in bench.snapshots().items() if key in kept}
    assert mine in bench.snapshots()
    export = Exporting(bench).run(format="jsonl")

    erased = threading.Event()
    shooters = [threading.Thread(target=shoot, args=(site, way, erased)) for way in site.ways()]
    for each in shooters:
        each.start()
    eventually(lambda: bench.database.snapshotrequests.count_documents({"contactId": site.contact}) > 100, 60)
    answer = site.http.delete(f"/api/training/contacts/{site.contact}")
    assert answer.status_code == 202
    erased.set()
    kill_pool(running.worker)
    running.redis.flushdb()
    eventually(lambda: not any(each.is_alive() for each in shooters), 120)
    kill_pool(running.worker)

    def verified() -> dict[str, Any] | None:
        (identity,) = identities(bench.connections, bench.organization)
        if not identity.holds:
            site.errors.append(str(identity))
        data: dict[str, Any] = site.http.get(answer.headers["Location"]).json()["data"]
        assert data["status"] != "failed", data
        return data["receipt"] if data["status"] == "completed" else None

    receipt = eventually(verified, 150, 0.5)
    assert receipt
    assert site.errors == []
    assert check(encode(receipt), read_public_key(tmp_path / "erasure.pub.pem"))

    needles = (str(site.contact), site.contact.binary, EMAIL, PHONE, NAME)
    assert in_append_only_file(running.redis, *needles) == []

    for way in site.ways():
        way(1)
    given = {"userId": str(ObjectId())}
    accept_backfill(Jobs(bench.service), bench.organization, given, enqueue=True)
    eventually(lambda: bench.database.snapshotjobs.count_documents({"kind": "backfill", "status": "completed"}), 60)
    eventually(lambda: running.redis.llen("snapshots") == 0 and running.redis.hlen("unacked") == 0, 60)

    found = bench.snapshots()
    assert {key: bson.encode(found[key]) for key in kept} == before
    assert not [each for each in found.values() if each["contactId"] == site.contact]
    assert bench.database.snapshotrequests.count_documents({"contactId": site.contact}) == 0
    assert site.post(2) == 410
    assert places_of(bench.database, running.redis, Path(str(bench.settings.exports_url)), *needles) == []
    assert (Path(str(bench.settings.exports_url)) / str(export.id) / "manifest.json").exists()
