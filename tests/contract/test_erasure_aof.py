"""After an erasure Redis has no byte of the person: not in its memory, and not in the append-only file it rewrites."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.erasing import EMAIL, Erasing, erasing_bench, in_append_only_file, person
from support.ledger import Bench
from worker.settings import Settings

PERSONS = {7, 57, 107, 157, 207, 257, 299}
"""The numbers of the person's entries. The last one is in a node to which Redis still adds entries."""


@pytest.fixture
def bench(settings: Settings, tmp_path: Path) -> Iterator[Bench]:
    with erasing_bench(settings, tmp_path) as made:
        made.service.clock.now()
        yield made


def event(number: int, contact: Any) -> dict[str, Any]:
    data = {"organizationId": "6a0000000000000000000001", "contactId": str(contact)}
    return {"event": json.dumps({"id": f"{number}.0", "type": "t", "time": "2026", "data": data})}


@pytest.mark.usefixtures("changeable_redis")
def test_deleted_entries_of_streams_are_not_in_the_rewritten_file(bench: Bench) -> None:
    contact, other = person(bench), bench.contact()
    redis: Any = bench.connections.redis
    redis.xgroup_create("snapshots:requests", "snapshots", id="0", mkstream=True)
    for number in range(300):
        owner = contact if number in PERSONS else other
        redis.xadd("snapshots:events", event(number, owner))
        body = json.dumps({"organizationId": str(bench.organization), "contactId": str(owner), "notes": EMAIL})
        redis.xadd("snapshots:requests", {"type": "snapshot.requested", "data": body if owner == contact else "{}"})
        bench.service.events.reject({"code": "x", "message": ""}, {b"data": body if owner == contact else "{}"}, "1-1")
    read = redis.xreadgroup("snapshots", "listener", {"snapshots:requests": ">"}, 250)
    ids = [key for key, _ in (read[0][1] if isinstance(read, list) else next(iter(read.values()))[0])]
    redis.xack("snapshots:requests", "snapshots", *ids[:-3])
    assert set(in_append_only_file(redis, str(contact), EMAIL)) == {str(contact).encode(), EMAIL.encode()}

    Erasing(bench).run(contact)

    # The entries that are left of the intake stream were not delivered yet, and their nodes are still needed.
    unread = [key for key, _ in redis.xrange("snapshots:requests")]
    assert {each.decode() for each in ids[-3:]} <= {each.decode() for each in unread}
    redis.delete("snapshots:requests")
    assert in_append_only_file(redis, str(contact), EMAIL) == []
    kept = {each["id"] for each in bench.events() if each["type"] == "t"}
    assert kept == {f"{number}.0" for number in range(300) if number not in PERSONS}
    assert redis.xlen("snapshots:rejected") == 300 - len(PERSONS)
