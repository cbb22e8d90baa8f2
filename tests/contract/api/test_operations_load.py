"""A costly page of one organization delays no other: limits by organization and by time."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pymongo
import pytest
import redis
from bson import ObjectId

from support.faults import failing
from support.http import api, bearer, token
from support.operations import ROOT
from support.served import own_settings
from support.waiting import allowed, eventually
from worker.local.embedded import Servers
from worker.settings import Settings

REQUESTS, REJECTED = f"{ROOT}/requests", f"{ROOT}/rejected"


@pytest.fixture
def settings(servers: Servers, mongo_client: pymongo.MongoClient[Any]) -> Iterator[Settings]:
    """A database that no worker reads."""
    made = own_settings(servers)
    yield made
    mongo_client.drop_database(made.mongo_database)


@pytest.fixture
def url(settings: Settings, tmp_path: Path) -> Iterator[str]:
    with api(settings, tmp_path) as (address, _):
        yield address


def get(url: str, path: str, organization: ObjectId, **claims: Any) -> tuple[httpx.Response, float]:
    """Return the answer and how many seconds it took."""
    began = time.monotonic()
    answer = httpx.get(url + path, headers=bearer(token(organization, **claims)), timeout=30)
    return answer, time.monotonic() - began


def test_many_slow_pages_of_one_organization_delay_no_other(
    url: str, settings: Settings, mongo_client: pymongo.MongoClient[Any]
) -> None:
    busy, other = ObjectId(), ObjectId()
    limit, longest = allowed(1.5), allowed(6)  # before this test's own load
    assert get(url, REQUESTS, busy)[0].status_code == 200  # the connections are open
    entered = mongo_client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})["count"]
    slow = {"namespace": f"{settings.mongo_database}.snapshotrequests", "blockConnection": True, "blockTimeMS": 5000}
    with failing(mongo_client, ["find"], {"times": 2}, **slow), ThreadPoolExecutor(12) as pool:
        pages = [pool.submit(get, url, REQUESTS, busy) for _ in range(12)]
        mongo_client.admin.command("waitForFailPoint", "failCommand", timesEntered=entered + 2, maxTimeMS=30_000)
        for path in (REQUESTS, ROOT):
            answer, seconds = get(url, path, other)
            assert (answer.status_code, seconds < limit) == (200, True), (path, answer.status_code, seconds)
        answers = [page.result() for page in pages]
    statuses = [answer.status_code for answer, _ in answers]
    assert statuses.count(503) == 2
    assert set(statuses) <= {200, 429, 503}
    assert max(seconds for _, seconds in answers) < longest
    for answer, _ in answers:
        if answer.status_code == 503:
            assert "did not answer within 2 s" in answer.text
            assert "too_slow" in answer.text
        if answer.status_code != 200:
            assert int(answer.headers["retry-after"]) >= 1


def test_overview_that_takes_long_is_made_in_the_background(
    url: str, settings: Settings, mongo_client: pymongo.MongoClient[Any]
) -> None:
    organization = ObjectId()
    slow = {"namespace": f"{settings.mongo_database}.snapshotrequests", "blockConnection": True, "blockTimeMS": 4000}
    with failing(mongo_client, ["aggregate"], {"times": 1}, **slow):
        answer, seconds = get(url, ROOT, organization)
        assert (answer.status_code, "Counting" in answer.text, 'http-equiv="refresh"' in answer.text) == (
            200,
            True,
            True,
        )
        assert seconds < allowed(3)
        assert eventually(lambda: "No request has been accepted yet" in get(url, ROOT, organization)[0].text, 30)


def test_counts_that_take_long_are_left_out_of_the_list(
    url: str, settings: Settings, mongo_client: pymongo.MongoClient[Any]
) -> None:
    organization = ObjectId()
    slow = {"namespace": f"{settings.mongo_database}.snapshotrequests", "blockConnection": True, "blockTimeMS": 4000}
    with failing(mongo_client, ["aggregate"], **slow):
        answer, seconds = get(url, REQUESTS, organization)
    assert (answer.status_code, "Counting by error code took too long" in answer.text) == (200, True)
    assert seconds < allowed(2.5)


def test_large_rejected_entries_are_listed_in_parts_while_the_process_answers_others(
    url: str, settings: Settings
) -> None:
    organization = ObjectId()
    content = {"organizationId": str(organization), "tags": ["x" * 80] * 12_000}
    entry = json.dumps({"type": "snapshot.requested", "data": json.dumps(content)})
    reason = json.dumps({"code": "invalid_request", "message": "The request is not valid."})
    with redis.Redis.from_url(settings.redis_url) as client:
        ids = [
            client.xadd(settings.rejected_stream, {"origin": "1-0", "reason": reason, "entry": entry})
            for _ in range(40)
        ]
    assert len(entry) > 1_000_000
    limit, longest = allowed(10), allowed(1)
    delays: list[float] = []
    with ThreadPoolExecutor(1) as pool, httpx.Client(base_url=url, timeout=30) as others:
        others.get("/healthz")
        listing = pool.submit(get, url, REJECTED, organization)
        while not listing.done():
            began = time.monotonic()
            others.get("/healthz")
            delays.append(time.monotonic() - began)
        answer, seconds = listing.result()
    assert (answer.status_code, seconds < limit) == (200, True), seconds
    assert len(answer.content) < 100_000
    assert max(delays) < longest
    one, _ = get(url, f"{REJECTED}/{ids[0].decode()}", organization)
    assert (one.status_code, one.text.count("x" * 80)) == (200, 12_000)
