"""The metrics of the whole system are correct, whichever process is scraped or killed."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import pytest
from bson import ObjectId

from support.ledger import Bench, bench_on
from support.scraping import Scraper, scraper_on
from support.waiting import allowed, eventually
from worker.domain.ledger_entry import DOCTORS_ORGANIZATION
from worker.errors import InvalidRequest
from worker.metrics.gauges import UNACKED
from worker.runs.run import Run
from worker.stores.stream_ids import LAST_PART, move_future_streams
from worker.sweep.retention import Retention

pytestmark = pytest.mark.usefixtures("indexed")


@pytest.fixture
def scrape(bench: Bench) -> Iterator[Scraper]:
    with scraper_on(bench) as scraper:
        yield scraper


def settle(bench: Bench) -> None:
    """Let a minute pass, so that the next scrape adds what has finished to the totals."""
    bench.advance(minutes=1)


def redrive(bench: Bench, *keys: ObjectId) -> None:
    assert len(bench.service.redrive(keys)) == len(keys)


@pytest.mark.parametrize("settled", [False, True], ids=["at once", "settled"])
def test_outcomes_are_counted_by_trigger_and_code(bench: Bench, scrape: Scraper, settled: bool) -> None:
    keys = bench.chunk(3)
    empty = bench.accepted(bench.asked(bench.contact()))
    bench.change(keys[:1], unchanged=True)
    bench.change(keys[1:2], attempts=2, swept=1)
    waiting = bench.chunk(2)
    Run(bench.service)([*keys, *empty])
    if settled:
        settle(bench)
    for _ in range(2):
        found = scrape()
        assert found['snapshots_accepted_total{trigger="client"}'] == 6
        assert found['snapshots_completed_total{trigger="client"}'] == 3
        assert found['snapshots_failed_total{code="empty_conversation",trigger="client"}'] == 1
        assert found['snapshots_retried_total{trigger="client"}'] == 2
        assert found['snapshots_swept_total{trigger="client"}'] == 1
        assert found['snapshots_in_flight{trigger="client"}'] == len(waiting)
        assert found['snapshots_accepted_total{trigger="api"}'] == 0
    assert found['snapshots_unchanged_total{trigger="client"}'] == 1


def test_counters_rise_by_what_happens_and_survive_restarts_and_retention(bench: Bench, scrape: Scraper) -> None:
    Run(bench.service)(bench.chunk(3))
    settle(bench)
    assert scrape()['snapshots_completed_total{trigger="client"}'] == 3
    Retention(bench.service).strip(bench.ago(days=9999), bench.ago(seconds=0), 100)
    Run(bench.service)(bench.chunk(2))
    with scraper_on(bench) as restarted:
        for scraper in (scrape, restarted):
            assert scraper()['snapshots_completed_total{trigger="client"}'] == 5


def test_processes_that_are_scraped_at_once_count_each_outcome_once(bench: Bench) -> None:
    with ExitStack() as stack:
        scrapers = [stack.enter_context(scraper_on(bench)) for _ in range(4)]
        for _ in range(3):
            Run(bench.service)(bench.chunk(5))
            settle(bench)
            threads = [threading.Thread(target=scraper) for scraper in scrapers]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(20)
        assert {scraper()['snapshots_completed_total{trigger="client"}'] for scraper in scrapers} == {15}


def test_redriven_failure_stays_counted_and_no_counter_falls(bench: Bench, scrape: Scraper) -> None:
    contact = bench.contact()
    keys = bench.accepted(bench.asked(contact), bench.asked(contact))
    Run(bench.service)(keys)
    before = scrape()
    redrive(bench, keys[0])  # before it is added to the totals
    settle(bench)
    between = scrape()
    redrive(bench, keys[1])  # after it was added
    Run(bench.service)(keys)
    after = scrape()
    for first, second in ((before, between), (between, after)):
        fallen = {name for name in first if "_total" in name or "_bucket" in name if second[name] < first[name]}
        assert not fallen
    assert after['snapshots_accepted_total{trigger="client"}'] == 3
    assert after['snapshots_failed_total{code="empty_conversation",trigger="client"}'] == 3


def test_seconds_from_accept_to_event_are_counted_by_bucket(bench: Bench, scrape: Scraper) -> None:
    quick, slow, waited = bench.chunk(3)
    Run(bench.service)([quick, slow, waited])
    done = bench.ago(seconds=0)
    for key, seconds in ((quick, 0.02), (slow, 7), (waited, 7200)):
        bench.change([key], finishedAt=done, sentAt=done, acceptedAt=done - timedelta(seconds=seconds))
    bench.change([waited], dueAt=done - timedelta(seconds=2))  # it had a `notBefore`
    found = scrape()

    def bucket(bound: str) -> float:
        return found[f'snapshots_accept_to_event_seconds_bucket{{le="{bound}",trigger="client"}}']

    assert [bucket(each) for each in ("0.01", "0.025", "2.5", "5.0", "10.0", "+Inf")] == [0, 1, 2, 2, 3, 3]
    assert found['snapshots_accept_to_event_seconds_sum{trigger="client"}'] == pytest.approx(9.02, abs=0.01)


def test_request_is_timed_once_its_event_is_sent(bench: Bench, scrape: Scraper) -> None:
    (key,) = bench.chunk(1)
    Run(bench.service)([key])
    bench.change([key], unsent=True, finishedAt=bench.ago(seconds=5))
    found = scrape()
    assert found["snapshots_events_unsent"] == 1
    assert 5 <= found["snapshots_event_lag_seconds"] < 10
    assert found['snapshots_accept_to_event_seconds_count{trigger="client"}'] == 0
    bench.database.snapshotrequests.update_one({"_id": key}, {"$unset": {"unsent": ""}})
    assert scrape()['snapshots_accept_to_event_seconds_count{trigger="client"}'] == 1


def test_oldest_waiting_seconds_ignores_requests_that_are_not_due(bench: Bench, scrape: Scraper) -> None:
    old, later = bench.chunk(2)
    bench.change([old], acceptedAt=bench.ago(minutes=2))
    bench.change([later], acceptedAt=bench.ago(hours=2))
    bench.database.snapshotrequests.update_one({"_id": later}, {"$unset": {"queue": ""}})
    assert 120 <= scrape()["snapshots_oldest_waiting_seconds"] < 140


def test_rejected_entries_are_counted_by_way_and_code_also_after_they_are_trimmed(
    bench: Bench, scrape: Scraper
) -> None:
    fault = InvalidRequest([{"field": "contactId", "message": "is required"}])
    for number in range(3):
        bench.service.events.reject(fault.outcome(), {"data": "priya@example.com"}, f"{number}-0")
    bench.service.events.reject(fault.outcome(), {}, "task:1")
    assert scrape()["snapshots_rejected_entries"] == 4
    bench.connections.redis.delete(bench.settings.rejected_stream)
    bench.service.events.reject(fault.outcome(), {}, "task:2")
    bench.connections.redis.xadd(bench.settings.rejected_stream, {"reason": '{"code": "a b@c"}'})
    found = scrape()
    assert found['snapshots_rejected_total{code="invalid_request",trigger="stream"}'] == 3
    assert found['snapshots_rejected_total{code="invalid_request",trigger="task"}'] == 2
    assert found['snapshots_rejected_total{code="unknown",trigger="stream"}'] == 1
    assert "priya" not in scrape.text()


def test_hostile_rejected_entries_neither_stop_the_count_nor_grow_it_without_end(bench: Bench, scrape: Scraper) -> None:
    stream = bench.settings.rejected_stream
    with bench.connections.redis.pipeline() as pipeline:
        for reason in (
            "[" * 100_000,
            '{"code":' * 100_000,
            '{"code": 5}',
            "5",
            "\udcff".encode(errors="surrogatepass"),
        ):
            pipeline.xadd(stream, {"reason": reason})
        for number in range(300):
            pipeline.xadd(stream, {"reason": json.dumps({"code": f"made_up_{number}"})})
        pipeline.execute()
    counted = {name: value for name, value in scrape().items() if name.startswith("snapshots_rejected_total")}
    assert sum(counted.values()) == 305
    assert counted['snapshots_rejected_total{code="unknown",trigger="stream"}'] == 5
    assert len(counted) <= 102


def test_rejected_entry_with_an_id_of_the_far_future_does_not_stop_the_count(bench: Bench, scrape: Scraper) -> None:
    client: Any = bench.connections.redis
    stream = bench.settings.rejected_stream
    client.xadd(stream, {"reason": '{"code": "early"}'})
    client.xadd(stream, {"reason": '{"code": "early"}'}, id=f"{LAST_PART}-{LAST_PART}")
    assert scrape()['snapshots_rejected_total{code="early",trigger="stream"}'] == 1
    move_future_streams(client, bench.settings)
    client.xadd(stream, {"reason": '{"code": "late"}'})
    assert scrape()['snapshots_rejected_total{code="late",trigger="stream"}'] == 1


def test_queues_streams_and_memory_are_as_redis_has_them(bench: Bench, scrape: Scraper) -> None:
    client: Any = bench.connections.redis
    names = bench.settings
    stamp = bench.ago(seconds=30)
    message = json.dumps({"headers": {"stamp": stamp.timestamp() * 1000}})
    client.lpush("snapshots", message, message)
    client.hset(UNACKED, "tag", "[]")
    for _ in range(3):
        client.xadd(names.requests_stream, {"type": "snapshot.requested"})
    client.xgroup_create(names.requests_stream, names.consumer_group, id="0")
    client.xreadgroup(names.consumer_group, "one", {names.requests_stream: ">"}, 1)
    Run(bench.service)(bench.chunk(2))
    client.xgroup_create(names.events_stream, "billing", id="0")
    found = scrape()
    assert found['snapshots_queue_messages{queue="snapshots"}'] == 2
    assert found['snapshots_queue_messages{queue="snapshots.bulk"}'] == 0
    assert 29 <= found['snapshots_queue_oldest_seconds{queue="snapshots"}'] < 60
    assert found["snapshots_unacked_messages"] == 1
    assert (found["snapshots_intake_lag_entries"], found["snapshots_intake_pending_entries"]) == (2, 1)
    assert 0 <= found["snapshots_intake_lag_seconds"] < 10
    assert found['snapshots_event_consumer_lag_entries{group="billing"}'] == 2
    assert 0 < found["snapshots_redis_memory_bytes"] < found["snapshots_redis_memory_limit_bytes"]
    assert (found['snapshots_server_up{server="mongo"}'], found['snapshots_server_up{server="redis"}']) == (1, 1)


def test_totals_beyond_what_is_settled_here_are_shown_at_once(bench: Bench, scrape: Scraper) -> None:
    """The totals are ahead where another process has a shorter run deadline."""
    Run(bench.service)(bench.chunk(2))
    scrape()
    bench.database.snapshotstate.update_one({"_id": "measures"}, {"$set": {"reached": bench.ago(seconds=-60)}})
    began = time.monotonic()
    assert 'snapshots_completed_total{trigger="client"}' in scrape()
    assert time.monotonic() - began < allowed(2)


def test_broken_identity_is_shown(bench: Bench, scrape: Scraper) -> None:
    Run(bench.service)(bench.chunk(2))
    assert eventually(lambda: scrape().get("snapshots_identity_broken") == 0)
    bench.database.trainingsnapshots.delete_one({})
    assert eventually(lambda: scrape()["snapshots_identity_broken"] == 1)
    assert scrape()["snapshots_organizations"] == 1


def test_metrics_of_a_server_that_cannot_be_reached_are_left_out(bench: Bench) -> None:
    nowhere = bench.settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})
    with bench_on(nowhere) as other, scraper_on(other) as scrape:
        found = scrape()
    assert (found['snapshots_server_up{server="mongo"}'], found['snapshots_server_up{server="redis"}']) == (1, 0)
    assert "snapshots_redis_memory_bytes" not in found
    assert found['snapshots_in_flight{trigger="api"}'] == 0


def test_doctors_own_request_is_not_counted(bench: Bench, scrape: Scraper) -> None:
    keys = bench.chunk(2)
    bench.change(keys, organizationId=DOCTORS_ORGANIZATION)
    bench.change(keys[:1], status="failed", finishedAt=bench.ago(seconds=1), error={"code": "empty_conversation"})
    assert scrape()['snapshots_accepted_total{trigger="client"}'] == 0


def test_event_that_was_sent_late_is_timed_by_when_it_was_sent(bench: Bench, scrape: Scraper) -> None:
    (key,) = bench.chunk(1)
    Run(bench.service)([key])
    bench.change([key], unsent=True)
    bench.advance(seconds=20)
    bench.service.ledger.finish([bench.entry(key)])
    bench.change([key], attempts=0)  # a majority write, after which the weaker one is visible too
    assert eventually(lambda: 20 <= scrape()['snapshots_accept_to_event_seconds_sum{trigger="client"}'] < 25)
