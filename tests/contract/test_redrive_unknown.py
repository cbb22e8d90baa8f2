"""A redrive whose commit gets no answer: what is returned is true, and nothing is redriven twice."""

from types import SimpleNamespace
from typing import Any

import pymongo
import pytest
from bson import ObjectId

from support.faults import failing
from support.ledger import Bench
from support.waiting import eventually
from worker.errors import RedriveUnknown
from worker.runs.run import Run
from worker.stores import redriving

WRITE_CONCERN_TIMEOUT = {"code": 64, "errmsg": "waiting for replication timed out"}
"""The transaction is committed, and the client is not told."""


@pytest.fixture
def key(bench: Bench, indexed: None) -> ObjectId:
    """A request that has failed, because its conversation is empty."""
    (key,) = bench.chunk(1, messages=0)
    Run(bench.service)([key])
    return key


def test_entries_whose_commit_was_not_answered_are_read_back(
    bench: Bench, key: ObjectId, mongo_client: pymongo.MongoClient[Any]
) -> None:
    fault = {"writeConcernError": WRITE_CONCERN_TIMEOUT}
    with failing(mongo_client, ["commitTransaction"], {"times": 1}, **fault):
        redriven = bench.service.redrive([key])
    assert [(each["_id"], each["round"]) for each in redriven] == [(key, 1)]
    assert bench.published.ids == [str(key)]


def test_request_that_fails_again_before_it_is_read_back_is_not_redriven_twice(
    bench: Bench, key: ObjectId, mongo_client: pymongo.MongoClient[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail_again() -> bool:
        Run(bench.service)([key])
        return bench.entry(key)["status"] == "failed"

    monkeypatch.setattr(redriving, "time", SimpleNamespace(sleep=lambda seconds: seconds and eventually(fail_again)))
    fault = {"writeConcernError": WRITE_CONCERN_TIMEOUT}
    with failing(mongo_client, ["commitTransaction"], {"times": 1}, **fault):
        redriven = bench.service.redrive([key])
    monkeypatch.undo()
    assert [each["_id"] for each in redriven] == [key]
    assert (bench.entry(key)["status"], bench.entry(key)["round"]) == ("failed", 1)


def test_without_any_answer_the_result_is_unknown_and_not_empty(
    bench: Bench, key: ObjectId, mongo_client: pymongo.MongoClient[Any]
) -> None:
    fault = {"writeConcernError": WRITE_CONCERN_TIMEOUT}
    with failing(mongo_client, ["commitTransaction"], **fault), pytest.raises(RedriveUnknown, match="in flight"):
        bench.service.redrive([key])
    assert bench.entry(key)["round"] == 1
