"""`GET /api/training/stats`."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pymongo
import pytest
from bson import ObjectId

from support.faults import failing
from support.http import STATISTICS
from support.served import Served


def fill(served: Served, organization: ObjectId, count: int) -> None:
    served.database.trainingsnapshots.insert_many(
        {
            "organizationId": organization,
            "isArchived": False,
            "quality": "good" if number % 2 else "bad",
            "messages": [{"id": "1", "content": "Hello, how can I help you?", "sender": "user"}],
            "messageCount": 1,
        }
        for number in range(count)
    )


def figures(client: httpx.Client, **query: Any) -> dict[str, Any]:
    answer = client.get(STATISTICS, params=query)
    assert answer.status_code == 200, answer.text
    data: dict[str, Any] = answer.json()["data"]
    return data


def test_viewer_gets_the_figures_of_the_own_organization(served: Served, own: ObjectId) -> None:
    fill(served, own, 10)
    viewer = served.as_("VIEWER", own)
    found = figures(viewer)
    assert (found["organizationId"], found["snapshots"]) == (str(own), 10)
    assert found["qualities"] == {
        "values": [{"value": "bad", "snapshots": 5}, {"value": "good", "snapshots": 5}],
        "more": False,
    }
    assert found["sample"]["languages"]["values"] == [{"value": "en", "snapshots": 10}]
    assert {each["format"] for each in found["sample"]["formats"]} >= {"jsonl", "messages"}
    assert figures(viewer, quality="good")["snapshots"] == 5
    assert figures(served.as_("VIEWER", ObjectId()))["snapshots"] == 0
    assert httpx.get(f"{served.url}{STATISTICS}").status_code == 401
    assert viewer.head(STATISTICS).status_code == 200


@pytest.mark.parametrize("query", ["page=1", "quality[$ne]=x", "from=yesterday", "isArchived=maybe", "sample=5"])
def test_unknown_filters_are_refused(served: Served, query: str) -> None:
    answer = served.http.get(f"{STATISTICS}?{query}")
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")


def test_statistics_that_take_too_long_say_what_to_do(
    served: Served, own: ObjectId, mongo_client: pymongo.MongoClient[Any]
) -> None:
    with failing(mongo_client, ["aggregate"], errorCode=50):  # MaxTimeMSExpired
        answer = served.as_("ADMIN", own).get(STATISTICS)
    assert (answer.status_code, answer.json()["code"]) == (400, "statistics_too_slow")
    assert "Narrow" in answer.json()["message"]


def test_one_organization_measures_once_at_a_time_and_keeps_no_other_waiting(
    served: Served, own: ObjectId, mongo_client: pymongo.MongoClient[Any]
) -> None:
    client = served.as_("ADMIN", own)
    started = threading.Barrier(2)

    def ask() -> httpx.Response:
        started.wait()
        return client.get(STATISTICS)

    entered = mongo_client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})["count"]
    snapshots = f"{served.settings.mongo_database}.trainingsnapshots"
    slow: dict[str, Any] = {"namespace": snapshots, "blockConnection": True, "blockTimeMS": 3000}
    with failing(mongo_client, ["aggregate"], {"times": 1}, **slow), ThreadPoolExecutor(2) as threads:
        asked = [threads.submit(ask), threads.submit(ask)]
        mongo_client.admin.command("waitForFailPoint", "failCommand", timesEntered=entered + 1, maxTimeMS=30_000)
        assert figures(served.as_("ADMIN", ObjectId()))["snapshots"] == 0
        assert not all(each.done() for each in asked)
        answers = [each.result() for each in asked]
    assert sorted(each.status_code for each in answers) == [200, 429]
    (refused,) = (each for each in answers if each.status_code == 429)
    assert (refused.json()["code"], refused.headers["retry-after"]) == ("too_many_in_progress", "1")
