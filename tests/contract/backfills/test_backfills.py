"""Backfills: what is selected, exact counts through interruptions, pauses, and cancelling."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bson import ObjectId

from support.contacts import START, Contact, contact_with
from support.ledger import Bench
from support.pipeline import run_accepted
from worker.backfills import backfill as module
from worker.backfills.accepting import accept_backfill, count_selected
from worker.backfills.backfill import Backfill
from worker.errors import BackfillInProgress, InvalidRequest, NotFound, StoreUnavailable
from worker.jobs.job import Job
from worker.jobs.slices import Slice, run_slice
from worker.jobs.store import Jobs


@pytest.fixture
def contact(bench: Bench) -> Contact:
    """A contact with 35 conversations, of which 5 are empty, and another organization's."""
    contact_with(bench.database, 1)
    return contact_with(bench.database, *[1] * 30, *[0] * 5, organization=bench.organization)


def asked(jobs: Jobs, contact: Contact, **given: Any) -> Job:
    return accept_backfill(jobs, contact.organization, given, enqueue=True)


def run_slices(jobs: Jobs, job: Job, most: int = 100, pages: int = 1) -> Job:
    """Run slices as workers do, until the job is finished."""
    for _ in range(most):
        run_slice(jobs, job.id, "test", Backfill(jobs.service, pages), lambda _: None)
        if (found := jobs.get(job.id)).is_finished:
            return found
        run_accepted(jobs.service)
    return jobs.get(job.id)


def request_ids(bench: Bench) -> set[str]:
    return {each["requestId"] for each in bench.database.snapshotrequests.find()}


EVERYTHING = {
    "conversations": 35,
    "requests": 35,
    "accepted": 35,
    "completed": 30,
    "failed": 5,
    "inFlight": 0,
    "deleted": 0,
    "failures": {"empty_conversation": 5},
    "refused": {},
}


def test_each_conversation_is_requested_once_and_its_outcome_is_counted(
    bench: Bench, jobs: Jobs, contact: Contact
) -> None:
    job = asked(jobs, contact, tags=["x"], quality="good")
    done = run_slices(jobs, job)
    assert (done.status, done.result) == ("completed", EVERYTHING)
    assert request_ids(bench) == {f"all:{each}" for each in contact.conversations}
    entry = bench.database.snapshotrequests.find_one()
    assert (entry["trigger"], entry["queue"]) == ("backfill", "snapshots.bulk")
    assert (entry["tags"], entry["quality"]) == (["x"], "good")
    (event,) = (each for each in bench.events() if each["type"] == "training.backfill.completed")
    assert event["data"]["completed"] == 30
    again = run_slices(jobs, asked(jobs, contact))
    assert again.result is not None
    assert (again.result["requests"], again.result["refused"]) == (0, {"request_id_conflict": 35})
    repeated = run_slices(jobs, asked(jobs, contact, tags=["x"], quality="good"))
    assert repeated.result == {**EVERYTHING, "accepted": 0}
    assert bench.database.trainingsnapshots.count_documents({}) == 30


def test_counts_are_exact_although_every_slice_dies(bench: Bench, jobs: Jobs, contact: Contact) -> None:
    """A slice that dies after it has accepted a page, and before it is recorded, is repeated."""
    job = asked(jobs, contact)
    for _ in range(3):
        claimed = jobs.claim(job.id, "dies")
        assert claimed
        work = Backfill(bench.service, 2)
        own = Slice(jobs, claimed)
        own.save = lambda session=None: None  # type: ignore[method-assign]
        assert work(own) is None
        bench.advance(seconds=jobs.lease.total_seconds() + 1)
        run_slice(jobs, job.id, "lives", Backfill(bench.service, 2), lambda _: None)
        run_accepted(bench.service)
    assert run_slices(jobs, job).result == EVERYTHING


def test_unreachable_store_ends_the_slice_and_loses_no_count(
    jobs: Jobs, contact: Contact, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = asked(jobs, contact)
    service = jobs.service
    accept_requests, calls = service.accept, 0

    def fails_every_second_time(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        answers = accept_requests(*arguments)
        return [*answers[:-1], StoreUnavailable()] if calls % 2 else answers

    monkeypatch.setattr(service, "accept", fails_every_second_time)
    for _ in range(10):
        with suppress(StoreUnavailable):
            run_slice(jobs, job.id, "test", Backfill(service, 1), lambda _: None)
    run_accepted(service)
    assert run_slices(jobs, job).result == EVERYTHING


def test_cancelled_backfill_accepts_nothing_more_and_what_was_accepted_gets_its_outcome(
    bench: Bench, jobs: Jobs, contact: Contact
) -> None:
    job = asked(jobs, contact)
    for _ in range(3):
        run_slice(jobs, job.id, "test", Backfill(bench.service, 1), lambda _: None)
    late = jobs.claim(job.id, "running")
    assert late
    assert jobs.cancel(job.id)
    accepted = request_ids(bench)
    assert 0 < len(accepted) < 35
    with pytest.raises(Exception, match="taken this job over"):
        Backfill(bench.service, 1)(Slice(jobs, late))
    cancelled = run_slices(jobs, job, most=2)
    assert cancelled.status == "cancelled"
    assert request_ids(bench) == accepted
    run_accepted(bench.service)
    assert bench.database.snapshotrequests.count_documents({"status": "accepted"}) == 0
    assert run_slices(jobs, asked(jobs, contact)).result == {**EVERYTHING, "accepted": 35 - len(accepted)}


def test_only_one_backfill_of_an_organization_is_in_progress(jobs: Jobs, contact: Contact) -> None:
    job = asked(jobs, contact, tags=["x"])
    assert asked(jobs, contact, tags=["x"]).id == job.id
    with pytest.raises(BackfillInProgress):
        asked(jobs, contact)
    other = contact_with(jobs.service.connections.database, 1)
    assert asked(jobs, other).id != job.id
    jobs.cancel(job.id)
    assert asked(jobs, contact).id != job.id
    with pytest.raises(NotFound):
        accept_backfill(jobs, ObjectId(), {}, enqueue=True)
    with pytest.raises(NotFound):
        asked(jobs, contact_with(jobs.service.connections.database, 1), channels=["fax"])


INVALID = [
    ({"limit": 0}, "limit"),
    ({"minMessages": "3"}, "minMessages"),
    ({"minMessages": 2.5}, "minMessages"),
    ({"from": "yesterday"}, "from"),
    ({"channels": "sms"}, "channels"),
    ({"channels": ["a\n"]}, "channels"),
    ({"tags": [""]}, "tags"),
    ({"organizationId": "6a1b2c3d4e5f60718293a4b5"}, "organizationId"),
    ({"chunk": 5}, "chunk"),
]


@pytest.mark.parametrize(("given", "field"), INVALID)
def test_invalid_input_names_its_field_and_leaves_nothing(
    bench: Bench, jobs: Jobs, contact: Contact, given: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidRequest) as raised:
        accept_backfill(jobs, contact.organization, given, enqueue=True)
    assert raised.value.errors[0]["field"].startswith(field)
    assert bench.database.snapshotjobs.count_documents({}) == 0


def moment(seconds: float) -> str:
    at: datetime = START + timedelta(seconds=seconds)
    return at.isoformat().replace("+00:00", "Z")


def test_conversations_are_selected_by_channel_messages_and_time(bench: Bench, jobs: Jobs) -> None:
    contact = contact_with(bench.database, 1, 2, 5, 0, organization=bench.organization)
    one, two, five, none = contact.conversations
    database = bench.database
    database.conversations.update_many({"_id": {"$in": [two, five]}}, {"$set": {"channelType": "sms"}})
    database.messages.update_many({"conversationId": five}, {"$set": {"timestamp": START + timedelta(days=1)}})
    # As part of the platform's documents store ids and times.
    database.messages.update_many(
        {"conversationId": two}, {"$set": {"conversationId": str(two), "timestamp": moment(0)}}
    )
    expected: list[tuple[dict[str, Any], set[ObjectId]]] = [
        ({}, {one, two, five, none}),
        ({"channels": ["sms"]}, {two, five}),
        ({"minMessages": 2}, {two, five}),
        ({"minMessages": 2.0}, {two, five}),  # 2.0 is an integer in JSON
        ({"channels": ["sms", "fax"], "minMessages": 3}, {five}),
        ({"from": moment(1)}, {five}),
        ({"to": moment(1)}, {one, two}),
        ({"limit": 3}, set(sorted([one, two, five, none])[:3])),
        ({"minMessages": 1, "limit": 2}, set(sorted([one, two, five])[:2])),
    ]
    for given, selected in expected:
        assert count_selected(jobs, contact.organization, given) == len(selected), given
        database.snapshotrequests.delete_many({})
        database.trainingsnapshots.delete_many({})
        done = run_slices(jobs, asked(jobs, contact, **given))
        assert done.result is not None
        assert (done.result["conversations"], done.result["requests"]) == (len(selected), len(selected)), given
        assert request_ids(bench) == {f"all:{each}" for each in selected}


def test_conversation_begins_with_its_first_message_however_times_are_stored(bench: Bench, jobs: Jobs) -> None:
    contact = contact_with(bench.database, 2, 2, 2, 1, organization=bench.organization)
    mixed, numbers, without, later = contact.conversations
    january, may = datetime(2026, 1, 10, tzinfo=UTC), datetime(2026, 5, 10, tzinfo=UTC)
    times: dict[ObjectId, list[Any]] = {
        mixed: [january, may.isoformat()],
        numbers: [may, january.timestamp()],
        without: [None, None],
        later: [may],
    }
    for conversation, moments in times.items():
        for message, moment_ in zip(contact.messages[conversation], moments, strict=True):
            change = {"$set": {"timestamp": moment_}} if moment_ else {"$unset": {"timestamp": ""}}
            bench.database.messages.update_one({"_id": message}, change)
    expected: list[tuple[dict[str, Any], set[ObjectId]]] = [
        ({"from": "2026-01-09", "to": "2026-01-11"}, {mixed, numbers}),
        ({"from": "2026-05-09", "to": "2026-05-11"}, {later}),
        ({"from": "2026-06-01"}, {without}),  # the time in the ids of its messages, which were made just now
        ({"to": "2026-01-11", "minMessages": 2}, {mixed, numbers}),
    ]
    for given, selected in expected:
        bench.database.snapshotrequests.delete_many({})
        run_slices(jobs, asked(jobs, contact, **given))
        assert request_ids(bench) == {f"all:{each}" for each in selected}, given


def test_ids_of_every_kind_are_read_in_order_and_unusable_ones_are_refused(bench: Bench, jobs: Jobs) -> None:
    contact = contact_with(bench.database, *[1] * 12, organization=bench.organization)
    as_text = [str(ObjectId()) for _ in range(15)]
    parents = {"organizationId": str(bench.organization), "contactId": str(contact.id)}
    bench.database.conversations.insert_many({"_id": each, **parents} for each in as_text)
    bench.database.conversations.insert_many({"_id": each, **parents} for each in (1, 2.5, "no id"))
    bench.database.conversations.insert_one({"organizationId": bench.organization})
    done = run_slices(jobs, asked(jobs, contact))
    assert done.result is not None
    assert done.result["conversations"] == 31
    assert done.result["refused"] == {"invalid_request": 4}
    assert request_ids(bench) == {f"all:{each}" for each in [*as_text, *contact.conversations]}


def test_backfill_pauses_while_interactive_requests_wait(
    bench: Bench, jobs: Jobs, contact: Contact, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = asked(jobs, contact)
    run_slice(jobs, job.id, "test", Backfill(bench.service, 1), lambda _: None)  # counts
    waiting = bench.service.clock.now() - module.MAX_INTERACTIVE_WAIT
    stamps = iter([waiting - timedelta(seconds=1)] * 5 + [None] * 100)
    monkeypatch.setattr("worker.stores.wakeups.Queues.oldest_stamp", lambda *_: next(stamps))
    for _ in range(5):
        run_slice(jobs, job.id, "test", Backfill(bench.service, 1), lambda _: None)
        assert bench.database.snapshotrequests.count_documents({}) == 0
    assert run_slices(jobs, job).result == EVERYTHING


def test_open_requests_of_a_backfill_are_limited(
    bench: Bench, jobs: Jobs, contact: Contact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_OPEN", 20)
    job = asked(jobs, contact)
    for _ in range(8):
        run_slice(jobs, job.id, "test", Backfill(bench.service, 1), lambda _: None)
    assert bench.database.snapshotrequests.count_documents({}) == 20
    assert run_slices(jobs, job).result == EVERYTHING


def test_deleted_snapshots_are_not_made_again(bench: Bench, jobs: Jobs) -> None:
    contact = contact_with(bench.database, 1, 1, organization=bench.organization)
    run_slices(jobs, asked(jobs, contact))
    snapshot = bench.database.trainingsnapshots.find_one({}, {"_id": 1})
    bench.service.delete(contact.organization, snapshot["_id"])
    done = run_slices(jobs, asked(jobs, contact))
    assert done.result is not None
    assert (done.result["requests"], done.result["deleted"], done.result["completed"]) == (1, 1, 1)
