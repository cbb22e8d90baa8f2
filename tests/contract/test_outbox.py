"""The outbox: a large decision is one document until the events of its requests are out."""

from collections.abc import Iterable
from typing import Any

import pytest
from bson import ObjectId

from support.ledger import Bench
from support.scraping import scraper_on
from support.sweeping import event_ids, events_of, sweep
from worker.errors import BrokerUnavailable, StoreConflict
from worker.runs.commit import RunResult
from worker.runs.run import Run
from worker.stores.outbox import FEWEST
from worker.sweep import sweep as sweeping
from worker.sweep.retention import Retention


def outbox(bench: Bench) -> list[dict[str, Any]]:
    return list(bench.database.snapshotoutbox.find().sort("_id", 1))


def run_without_events(bench: Bench, keys: list[ObjectId]) -> RunResult:
    """Redis is down when the events are emitted."""
    emit = bench.service.events.emit

    def die(_: Any) -> None:
        raise BrokerUnavailable

    bench.service.events.emit = die  # type: ignore[method-assign,assignment]
    result = Run(bench.service)(keys)
    bench.service.events.emit = emit  # type: ignore[method-assign]
    return result


def finished_ago(bench: Bench, keys: list[ObjectId], **past: float) -> None:
    """As if these requests, which are all of the outbox, had been decided earlier."""
    at = bench.ago(**past)
    bench.change(keys, finishedAt=at)
    bench.database.snapshotoutbox.update_many({}, {"$set": {"at": at}})


def failing(bench: Bench) -> ObjectId:
    (key,) = bench.accepted(bench.asked(bench.contact()))  # without a conversation
    return key


def test_large_decision_is_in_the_outbox_from_its_commit_until_its_events_are_out(bench: Bench) -> None:
    keys = bench.chunk(FEWEST)
    emit = bench.service.events.emit
    seen: list[dict[str, Any]] = []

    def look(entries: Iterable[Any]) -> None:
        seen.extend(outbox(bench))
        emit(entries)

    bench.service.events.emit = look  # type: ignore[method-assign]
    Run(bench.service)(keys)
    (decision,) = seen
    entries = bench.entries(keys)
    assert set(decision["requests"]) == set(keys)
    assert {entry["finishedAt"] for entry in entries} == {decision["at"]}
    assert not any(entry.keys() & {"unsent", "sentAt"} for entry in entries)
    assert set(event_ids(bench)) == events_of(keys)
    assert outbox(bench) == []


def test_small_decision_marks_its_entries_and_needs_no_document(bench: Bench) -> None:
    keys = bench.chunk(FEWEST - 1)
    run_without_events(bench, keys)
    assert all(entry["unsent"] for entry in bench.entries(keys))
    assert outbox(bench) == []


def test_decision_that_is_aborted_leaves_nothing_in_the_outbox(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = bench.chunk(FEWEST)
    inserted: list[Any] = []

    def refuse(documents: Any, session: Any) -> None:
        inserted.append(bench.service.ledger.outbox.collection.find_one({}, session=session))
        raise StoreConflict

    monkeypatch.setattr(bench.service.snapshots, "insert", refuse)
    Run(bench.service)(keys)
    assert inserted
    assert None not in inserted
    assert outbox(bench) == []
    assert {entry["status"] for entry in bench.entries(keys)} == {"accepted"}


def test_sweep_emits_what_is_in_the_outbox_once_its_run_must_have_ended(bench: Bench) -> None:
    sweep(bench)
    keys = bench.chunk(FEWEST + 2)
    assert run_without_events(bench, keys).completed == FEWEST + 2
    assert sweep(bench).emitted == 0
    finished_ago(bench, keys, seconds=16)
    assert sweep(bench).emitted == FEWEST + 2
    assert set(event_ids(bench)) == events_of(keys)
    assert all(entry["sentAt"] > entry["finishedAt"] for entry in bench.entries(keys))
    assert outbox(bench) == []
    assert sweep(bench).emitted == 0


def test_decision_that_a_new_primary_does_not_show_yet_stays_in_the_outbox(bench: Bench) -> None:
    sweep(bench)
    keys = bench.chunk(FEWEST)
    run_without_events(bench, keys)
    finished_ago(bench, keys, seconds=16)
    bench.change(keys[:1], status="accepted")
    sweep(bench)
    assert len(outbox(bench)) == 1
    bench.change(keys[:1], status="completed")
    sweep(bench)
    assert set(event_ids(bench)) == events_of(keys)
    assert outbox(bench) == []


def test_outcomes_dated_ahead_by_a_former_primary_are_emitted_too(bench: Bench) -> None:
    sweep(bench)
    keys = bench.chunk(FEWEST)
    run_without_events(bench, keys)
    finished_ago(bench, keys, minutes=-10)
    assert sweep(bench).emitted == FEWEST


def test_each_event_is_emitted_once_however_many_decisions_wait(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep(bench)
    keys = [bench.chunk(FEWEST) for _ in range(3)]
    for each in keys:
        run_without_events(bench, each)
    everything = [key for each in keys for key in each]
    finished_ago(bench, everything, seconds=16)
    monkeypatch.setattr(sweeping, "_BATCH", FEWEST)
    assert sweep(bench).emitted == 3 * FEWEST
    assert sorted(event_ids(bench)) == sorted(events_of(everything))


def test_failure_next_to_a_large_decision_keeps_its_mark_and_cannot_be_redriven_before_its_event(bench: Bench) -> None:
    sweep(bench)
    keys, failed = bench.chunk(FEWEST), failing(bench)
    result = run_without_events(bench, [*keys, failed])
    assert (result.completed, result.failed) == (FEWEST, 1)
    assert [set(decision["requests"]) for decision in outbox(bench)] == [set(keys)]
    assert bench.service.redrive([failed, *keys]) == []
    finished_ago(bench, [*keys, failed], seconds=16)
    assert sweep(bench).emitted == FEWEST + 1
    assert [each["_id"] for each in bench.service.redrive([failed, *keys])] == [failed]


def test_request_whose_entry_is_gone_does_not_keep_the_others_from_their_events(bench: Bench) -> None:
    sweep(bench)
    gone, *keys = bench.chunk(FEWEST)
    run_without_events(bench, [gone, *keys])
    bench.database.snapshotrequests.delete_one({"_id": gone})
    finished_ago(bench, keys, seconds=16)
    assert sweep(bench).emitted == FEWEST - 1
    assert outbox(bench) == []


def test_retention_leaves_entries_alone_whose_event_is_not_out(bench: Bench) -> None:
    keys = bench.chunk(FEWEST)
    run_without_events(bench, keys)
    finished_ago(bench, keys, days=100)
    assert Retention(bench.service)() == 0
    sweep(bench)
    assert set(event_ids(bench)) == events_of(keys)
    assert Retention(bench.service)() + sweep(bench).stripped == 0
    assert not any("acceptedAt" in entry for entry in bench.entries(keys))


def test_unsent_outcomes_of_the_outbox_are_counted_and_timed_once_they_are_sent(bench: Bench) -> None:
    sweep(bench)
    keys = bench.chunk(FEWEST)
    run_without_events(bench, keys)
    timed = "snapshots_accept_to_event_seconds"
    with scraper_on(bench) as scrape:
        found = scrape()
        assert found["snapshots_events_unsent"] == FEWEST
        assert found[f'{timed}_count{{trigger="client"}}'] == 0
        bench.advance(seconds=20)
        assert sweep(bench).emitted == FEWEST
        found = scrape()
        assert found["snapshots_events_unsent"] == 0
        assert found[f'{timed}_count{{trigger="client"}}'] == FEWEST
        assert found[f'{timed}_sum{{trigger="client"}}'] >= 20 * FEWEST
