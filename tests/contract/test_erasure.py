"""An erasure removes a person from everything we keep, and leaves everyone else as they were."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bson
import pytest
from bson import ObjectId

from support.erasing import EMAIL, PHONE, Erasing, celery_message, erasing_bench, left_of, person
from support.ledger import Bench
from worker.clock import EPOCH
from worker.erasure import broker
from worker.erasure import receipt as receipts
from worker.erasure.accepting import lift
from worker.erasure.holds import Holds
from worker.errors import ContactErased, InvalidSettings, NotFound
from worker.jobs.slices import Slice
from worker.jobs.store import Jobs
from worker.runs.run import Run
from worker.service import Receipt
from worker.settings import Settings
from worker.stores.stats import identities
from worker.sweep.retention import Retention
from worker.sweep.sweep import Sweep


@pytest.fixture
def bench(settings: Settings, tmp_path: Path) -> Iterator[Bench]:
    with erasing_bench(settings, tmp_path) as made:
        made.service.clock.now()
        yield made


def with_history(bench: Bench, contact: ObjectId) -> list[ObjectId]:
    """Four completed requests, one that failed, and one in flight, whose events are out."""
    asked = [bench.asked(contact, conversationId=bench.conversation(contact), notes=f"{EMAIL} called") for _ in "1234"]
    done = bench.accepted(*asked, bench.asked(contact, conversationId=bench.conversation(contact, 0), tags=["vip"]))
    Run(bench.service)(done)
    bench.database.trainingsnapshots.update_one({"_id": done[0]}, {"$set": {"isArchived": True}})
    bench.service.delete(bench.organization, done[1])
    return [*done, *bench.accepted(bench.asked(contact, f"order-{contact}", messageIds=[ObjectId()]))]


def test_everything_of_a_person_is_removed_and_everything_of_others_stays(bench: Bench) -> None:
    contact, other = person(bench), bench.contact()
    keys = with_history(bench, contact)
    (kept,) = bench.accepted(bench.asked(other, conversationId=bench.conversation(other), notes="Priya's friend"))
    Run(bench.service)([kept])
    before = bson.encode(bench.snapshots()[kept])
    entry_before, event_before = bench.entry(kept), [each for each in bench.events() if str(kept) in each["id"]]

    done = Erasing(bench).run(contact)

    assert done.status == "completed"
    assert left_of(bench, contact) == []
    assert bson.encode(bench.snapshots()[kept]) == before
    assert bench.entry(kept) == entry_before
    assert [each for each in bench.events() if str(kept) in each["id"]] == event_before
    assert set(bench.snapshots()) == {kept}
    (identity,) = identities(bench.connections, bench.organization)
    assert (identity.accepted, identity.completed, identity.failed, identity.in_flight) == (7, 5, 2, 0)
    assert identity.holds
    in_flight = bench.entry(keys[-1])
    assert (in_flight["status"], in_flight["error"]["code"]) == ("failed", "erased")
    assert in_flight["requestId"] == f"erased:{keys[-1]}"
    assert bench.entry(keys[0])["bodyHash"] == ""
    with pytest.raises(ContactErased):
        raise bench.service.accept([bench.asked(contact)])[0]  # type: ignore[misc]


def test_events_of_an_erased_contact_go_out_again_without_the_contact(bench: Bench) -> None:
    contact = person(bench)
    keys = with_history(bench, contact)
    Erasing(bench).run(contact)
    assert [each["type"] for each in bench.events()] == ["training.contact.erased"]
    bench.advance(minutes=1)
    Sweep(bench.service)()
    events = {each["subject"]: each for each in bench.events() if each["type"] != "training.contact.erased"}
    assert set(events) == set(map(str, keys))
    assert {each["data"]["contactId"] for each in events.values()} == {None}
    assert left_of(bench, contact) == []


def test_messages_and_entries_in_redis_are_removed(bench: Bench) -> None:
    contact, other = person(bench), bench.contact()
    redis: Any = bench.connections.redis
    mine, others = ({"organizationId": str(bench.organization), "contactId": str(each)} for each in (contact, other))
    for queue in ("snapshots", "snapshots.bulk"):
        redis.lpush(queue, celery_message(mine), celery_message(others), celery_message({}, argsrepr=str(contact)))
    redis.hset("unacked", "1", json.dumps([json.loads(celery_message(mine)), "", "snapshots"]))
    redis.hset("unacked", "2", json.dumps([json.loads(celery_message(others)), "", "snapshots"]))
    redis.zadd("unacked_index", {"1": 1, "2": 2})
    redis.xgroup_create("snapshots:requests", "snapshots", id="0", mkstream=True)
    for body in (mine, others):
        redis.xadd("snapshots:requests", {"type": "snapshot.requested", "data": json.dumps(body)})
    redis.xreadgroup("snapshots", "listener", {"snapshots:requests": ">"})
    redis.xadd("snapshots:requests", {"type": "snapshot.requested", "data": json.dumps(mine)})
    for body in (mine, others, {"organizationId": str(bench.organization), "notes": f"mail to {EMAIL.upper()}"}):
        bench.service.events.reject({"code": "invalid_request", "message": ""}, {b"data": json.dumps(body)}, "1-1")

    done = Erasing(bench).run(contact)

    assert left_of(bench, contact) == []
    assert [redis.llen(queue) for queue in ("snapshots", "snapshots.bulk")] == [1, 1]
    assert (redis.hkeys("unacked"), redis.zrange("unacked_index", 0, -1)) == ([b"2"], [b"2"])
    assert (redis.xlen("snapshots:requests"), redis.xlen("snapshots:rejected")) == (1, 1)
    assert redis.xpending("snapshots:requests", "snapshots")["pending"] == 1
    assert done.result
    removed = done.result["receipt"]["removed"]
    assert removed == {
        "redis:snapshots": 2,
        "redis:snapshots.bulk": 2,
        "redis:snapshots:rejected": 2,
        "redis:snapshots:requests": 2,
        "redis:unacked": 1,
    }


def test_streams_are_searched_to_their_end_in_bounded_reads(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    contact = person(bench)
    redis: Any = bench.connections.redis
    bench.accepted(bench.asked(contact))
    monkeypatch.setattr(broker, "_PAGE_BYTES", 1000)
    last = f"{2**64 - 1}-{2**64 - 1}"
    for stream in ("snapshots:rejected", "snapshots:misplaced:1:snapshots:requests"):
        for number in range(39):
            redis.xadd(stream, {"entry": f"{number} of no one" if number % 13 else str(contact)})
        redis.xadd(stream, {"entry": str(contact)}, id=last if "misplaced" in stream else "*")
    assert Erasing(bench).run(contact).status == "completed"
    assert left_of(bench, contact) == []
    assert redis.xlen("snapshots:misplaced:1:snapshots:requests") == 36


def test_mentions_in_the_snapshots_of_others_are_counted_and_stay(bench: Bench) -> None:
    contact, other = person(bench), bench.contact()
    bench.accepted(bench.asked(contact))
    (kept,) = bench.accepted(bench.asked(other, conversationId=bench.conversation(other), notes=f"knows {EMAIL}"))
    Run(bench.service)([kept])
    Holds(bench.service).set((bench.organization, other), f"{EMAIL} asks for it", bench.ago(days=-1))
    done = Erasing(bench).run(contact)
    assert done.result
    counted = {"snapshotholds": 1, "snapshotrequests": 1, "trainingsnapshots": 1}
    assert done.result["receipt"]["mentions"] == counted
    assert bench.snapshots()[kept]["notes"] == f"knows {EMAIL}"


def test_documents_of_another_organization_that_name_the_contact_hinder_no_erasure(bench: Bench) -> None:
    contact = person(bench)
    bench.accepted(bench.asked(contact))
    Jobs(bench.service).accept("backfill", ObjectId(), {"notes": f"see {contact}"}, enqueue=False)
    assert Erasing(bench).run(contact).status == "completed"


def test_request_ids_with_an_address_or_number_are_replaced(bench: Bench) -> None:
    contact = person(bench)
    keys = bench.accepted(*(bench.asked(contact, f"order-{each}") for each in (EMAIL.upper(), PHONE, "4711")))
    Run(bench.service)(keys)
    Erasing(bench).run(contact)
    assert [bench.entry(key)["requestId"] for key in keys] == [f"erased:{keys[0]}", f"erased:{keys[1]}", "order-4711"]
    assert left_of(bench, contact) == []


@pytest.mark.parametrize("odd", ["a\0b@example.com", "x" * 50_000 + "@example.com", "(+[*?{|^$#\\-é@example.com"])
def test_odd_address_hinders_no_erasure(bench: Bench, odd: str) -> None:
    contact = bench.contact(email=odd, phoneNumber=PHONE)
    keys = bench.accepted(bench.asked(contact, f"a-{odd[-25:]}".replace("\0", "")), bench.asked(contact, PHONE))
    Run(bench.service)(keys)
    assert Erasing(bench).run(contact).status == "completed"
    assert bench.entry(keys[1])["requestId"] == f"erased:{keys[1]}"


def test_unknown_contact_is_nothing_found_and_leaves_no_tombstone(bench: Bench) -> None:
    with pytest.raises(NotFound):
        Erasing(bench).accept(ObjectId())
    stranger = bench.contact(organizationId=ObjectId())
    with pytest.raises(NotFound):
        Erasing(bench).accept(stranger)
    assert bench.database.snapshoterasures.count_documents({}) == 0


def test_same_erasure_while_one_is_in_progress_is_that_one(bench: Bench) -> None:
    contact = person(bench)
    erasing = Erasing(bench)
    job = erasing.accept(contact)
    assert erasing.accept(contact).id == job.id


def test_settings_without_keys_are_named(bench: Bench) -> None:
    contact = person(bench)
    for name in ("erasure_key", "erasure_signing_key"):
        other = bench.another(**{name: None})
        with pytest.raises(InvalidSettings, match=f"SNAPSHOTS_{name.upper()}"):
            Erasing(other).accept(contact)
        other.connections.close()
    assert bench.database.snapshoterasures.count_documents({}) == 0


def test_lifted_erasure_accepts_requests_again(bench: Bench) -> None:
    contact = person(bench)
    Erasing(bench).run(contact)
    lift(Jobs(bench.service), bench.organization, contact)
    assert isinstance(bench.service.accept([bench.asked(contact)])[0], Receipt)
    with pytest.raises(NotFound):
        lift(Jobs(bench.service), bench.organization, contact)
    assert bench.database.snapshoterasures.count_documents({"liftedAt": {"$exists": True}}) == 1


def test_worker_killed_after_any_write_leaves_an_erasure_that_another_finishes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    contact = person(bench)
    with_history(bench, contact)
    erasing = Erasing(bench)
    job = erasing.accept(contact)
    save = Slice.save

    def die_after(own: Slice, session: Any = None) -> None:
        save(own, session)
        if session is None:
            raise KeyboardInterrupt  # nothing below the slice catches it

    deaths = 0
    monkeypatch.setattr(Slice, "save", die_after)
    while not (now := erasing.jobs.get(job.id)).is_finished and deaths < 20:
        try:
            erasing.slice(job)
        except KeyboardInterrupt:
            deaths += 1
            bench.advance(seconds=erasing.jobs.lease.total_seconds() + 1)
    assert deaths > 3
    assert now.status == "completed"
    assert left_of(bench, contact) == []
    assert now.result
    assert now.result["receipt"]["removed"]["snapshots"] == 3


def test_event_of_a_request_that_retention_has_stripped_is_not_emitted_again(bench: Bench) -> None:
    """Its fields are gone. It may be recent if the retention was shorter before."""
    contact = person(bench)
    (key,) = bench.accepted(bench.asked(contact, conversationId=bench.conversation(contact)))
    Run(bench.service)([key])
    assert Retention(bench.service).strip(EPOCH, bench.ago(seconds=-1), 10)[0] == 1
    assert Erasing(bench).run(contact).status == "completed"
    assert "unsent" not in bench.entry(key)
    assert bench.snapshots() == {}


def test_receipt_verifies_and_one_changed_byte_does_not(bench: Bench, tmp_path: Path) -> None:
    contact = person(bench)
    with_history(bench, contact)
    done = Erasing(bench).run(contact)
    assert done.result
    key = receipts.read_public_key(tmp_path / "erasure.pub.pem")
    content = receipts.encode(done.result["receipt"])
    assert receipts.check(content, key) == done.result["receipt"]
    assert not any(each in content for each in (str(contact).encode(), EMAIL.encode(), b"Priya"))
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1
        with pytest.raises(receipts.ReceiptInvalid):
            receipts.check(bytes(changed), key)
