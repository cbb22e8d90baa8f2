"""What an erasure finds in the ledger, which has no index on the contact, and what it counts."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId

from support.erasing import PHONE, Erasing, erasing_bench, left_of, person
from support.ledger import Bench
from worker.erasure.search import Search
from worker.runs.run import Run
from worker.settings import Settings
from worker.sweep.sweep import Sweep

_ENTRIES = 24_000
_AT_ONCE = 10_000
"""The most entries that one command may examine."""


@pytest.fixture
def bench(settings: Settings, tmp_path: Path) -> Iterator[Bench]:
    with erasing_bench(settings, tmp_path) as made:
        made.service.clock.now()
        yield made


def failed(bench: Bench, contact: ObjectId, number: int) -> dict[str, Any]:
    """A request of long ago."""
    key = ObjectId(b"\x60\0\0\0" + number.to_bytes(8))
    error = {"code": "empty_conversation", "message": "", "details": {}}
    return {
        "_id": key,
        "organizationId": bench.organization,
        "requestId": str(key),
        "bodyHash": "",
        "status": "failed",
        "round": 0,
        "contactId": contact,
        "finishedAt": bench.service.clock.now(),
        "error": error,
    }


def test_the_ledger_is_examined_in_parts(bench: Bench) -> None:
    """In an organization with millions of requests, one read of all of them would exceed every time limit."""
    contact, other = ObjectId(), ObjectId()
    mine = {0, _ENTRIES - 1, *range(_AT_ONCE - 1, _AT_ONCE + 500), 2 * _AT_ONCE}
    entries = [failed(bench, contact if number in mine else other, number) for number in range(_ENTRIES)]
    bench.database.snapshotrequests.insert_many(entries)
    bench.database.command("profile", 2)

    done = Erasing(bench).run(contact)

    bench.database.command("profile", 0)
    profile = bench.database["system.profile"]
    commands = list(profile.find({"ns": bench.database.snapshotrequests.full_name, "docsExamined": {"$gt": 0}}))
    profile.drop()
    assert done.status == "completed"
    assert done.result is not None
    assert done.result["receipt"]["removed"] == {"requests": len(mine)}
    assert left_of(bench, contact) == []
    assert bench.database.snapshotrequests.count_documents({"contactId": other}) == _ENTRIES - len(mine)
    assert max(each["docsExamined"] for each in commands) <= _AT_ONCE


def test_number_in_a_request_id_is_replaced_however_it_is_written(bench: Bench) -> None:
    contact = person(bench)
    (key,) = bench.accepted(bench.asked(contact, f"wa-{PHONE.removeprefix('+')}-1"))
    Run(bench.service)([key])
    Erasing(bench).run(contact)
    assert bench.entry(key)["requestId"] == f"erased:{key}"


def test_request_that_a_run_failed_before_the_erasure_came_is_scrubbed_as_well(bench: Bench) -> None:
    contact = person(bench)
    asked = bench.asked(contact, f"crm-{contact}-1", conversationId=bench.conversation(contact), notes="called")
    (key,) = bench.accepted(asked)
    erasing = Erasing(bench)
    job = erasing.accept(contact)
    Run(bench.service)([key])
    entry = bench.entry(key)
    assert (entry["error"]["code"], entry["erasing"]) == ("erased", contact)
    assert "notes" not in entry
    assert erasing.finish(job).status == "completed"
    entry = bench.entry(key)
    assert (entry["requestId"], entry["bodyHash"]) == (f"erased:{key}", "")
    assert left_of(bench, contact) == []
    bench.advance(minutes=1)
    Sweep(bench.service)()
    events = [each for each in bench.events() if each["subject"] == str(key)]
    assert {(each["type"], each["data"]["contactId"]) for each in events} == {("training.snapshot.failed", None)}
    assert {each["data"]["requestId"] for each in events} == {f"erased:{key}"}


def test_items_of_other_programs_are_counted_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if a search finds something, so that everything is searched again."""
    contact = person(bench)
    bench.connections.redis.set("other-program", str(contact))
    rounds: list[int] = []

    class FindsSomethingAtFirst(Search):
        def __call__(self, left: Counter[str], mentions: Counter[str]) -> bool:
            if not rounds:
                left["trainingsnapshots"] += 1
            rounds.append(1)
            return super().__call__(left, mentions)

    monkeypatch.setattr("worker.erasure.erasure.Search", FindsSomethingAtFirst)
    done = Erasing(bench).run(contact)
    assert len(rounds) == 2
    assert done.result
    assert list(done.result["receipt"]["otherKeys"].values()) == [1]
    assert "trainingsnapshots" not in done.result["receipt"]["removed"]
