"""The whole system's metrics: true, whoever is asked and whoever was killed; and cheap."""

import json
import threading
import time
from datetime import datetime, timedelta
from typing import Any

import pytest
from bson import ObjectId
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from support.ledger import Bench, bench_on
from support.waiting import eventually
from worker.errors import InvalidRequest
from worker.metrics import outcomes
from worker.metrics.gauges import UNACKED
from worker.metrics.outcomes import DOCTORS, OutcomeFold
from worker.metrics.readers import Cached
from worker.metrics.system import SystemMetrics
from worker.runs.run import Run
from worker.sweep.retention import Retention

Scraped = dict[str, float]


pytestmark = pytest.mark.usefixtures("indexed")


class Scraper:
    """One process that is scraped; every scrape reads anew."""

    def __init__(self, bench: Bench) -> None:
        self._metrics = SystemMetrics(bench.connections)
        self._registry = CollectorRegistry()
        self._registry.register(self._metrics)

    def text(self) -> str:
        for each in vars(self._metrics).values():
            for cached in (each, getattr(each, "_cached", None)):
                if isinstance(cached, Cached):
                    cached._due = 0.0
        return generate_latest(self._registry).decode()

    def __call__(self) -> Scraped:
        """Samples by their name and labels, as they stand in the text."""
        found: Scraped = {}
        for family in text_string_to_metric_families(self.text()):
            for sample in family.samples:
                labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
                found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
        return found


@pytest.fixture
def scrape(bench: Bench) -> Scraper:
    return Scraper(bench)


def settle(bench: Bench) -> None:
    """A minute passes: what is finished is added to the totals with the next scrape."""
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
    restarted = Scraper(bench)
    for each in (scrape, restarted):
        assert each()['snapshots_completed_total{trigger="client"}'] == 5


def test_processes_that_are_scraped_at_once_count_each_outcome_once(bench: Bench) -> None:
    scrapers = [Scraper(bench) for _ in range(4)]
    for _ in range(3):
        Run(bench.service)(bench.chunk(5))
        settle(bench)
        threads = [threading.Thread(target=each) for each in scrapers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    assert {each()['snapshots_completed_total{trigger="client"}'] for each in scrapers} == {15}


def test_redriven_failure_stays_counted_and_no_counter_falls(bench: Bench, scrape: Scraper) -> None:
    contact = bench.contact()
    keys = bench.accepted(bench.asked(contact), bench.asked(contact))
    Run(bench.service)(keys)
    before = scrape()
    redrive(bench, keys[0])  # before it was added to the totals
    settle(bench)
    between = scrape()
    redrive(bench, keys[1])  # after that
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
    bench.change([waited], dueAt=done - timedelta(seconds=2))  # it was to wait
    found = scrape()

    def bucket(bound: str) -> float:
        return found[f'snapshots_accept_to_event_seconds_bucket{{le="{bound}",trigger="client"}}']

    assert [bucket(each) for each in ("0.01", "0.025", "2.5", "5.0", "10.0", "+Inf")] == [0, 1, 2, 2, 3, 3]
    assert found['snapshots_accept_to_event_seconds_sum{trigger="client"}'] == pytest.approx(9.02, abs=0.01)


def test_event_that_is_not_out_is_timed_once_it_is(bench: Bench, scrape: Scraper) -> None:
    (key,) = bench.chunk(1)
    Run(bench.service)([key])
    bench.change([key], unsent=True, finishedAt=bench.ago(seconds=5))
    found = scrape()
    assert found["snapshots_events_unsent"] == 1
    assert 5 <= found["snapshots_event_lag_seconds"] < 10
    assert found['snapshots_accept_to_event_seconds_count{trigger="client"}'] == 0
    bench.database.snapshotrequests.update_one({"_id": key}, {"$unset": {"unsent": ""}})
    assert scrape()['snapshots_accept_to_event_seconds_count{trigger="client"}'] == 1


def test_oldest_waiting_is_that_of_the_oldest_request_that_is_due(bench: Bench, scrape: Scraper) -> None:
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
    """Another process with a shorter run deadline keeps them ahead."""
    Run(bench.service)(bench.chunk(2))
    scrape()
    bench.database.snapshotstate.update_one({"_id": "measures"}, {"$set": {"reached": bench.ago(seconds=-60)}})
    began = time.monotonic()
    assert 'snapshots_completed_total{trigger="client"}' in scrape()
    assert time.monotonic() - began < 2


def test_broken_identity_is_shown(bench: Bench, scrape: Scraper) -> None:
    Run(bench.service)(bench.chunk(2))
    assert eventually(lambda: scrape().get("snapshots_identity_broken") == 0)
    bench.database.trainingsnapshots.delete_one({})
    assert eventually(lambda: scrape()["snapshots_identity_broken"] == 1)
    assert scrape()["snapshots_organizations"] == 1


def test_what_no_server_tells_is_left_out(bench: Bench) -> None:
    nowhere = bench.settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})
    with bench_on(nowhere) as other:
        found = Scraper(other)()
    assert (found['snapshots_server_up{server="mongo"}'], found['snapshots_server_up{server="redis"}']) == (1, 0)
    assert "snapshots_redis_memory_bytes" not in found
    assert found['snapshots_in_flight{trigger="api"}'] == 0


def test_doctors_own_request_is_not_counted(bench: Bench, scrape: Scraper) -> None:
    keys = bench.chunk(2)
    bench.change(keys, organizationId=DOCTORS)
    bench.change(keys[:1], status="failed", finishedAt=bench.ago(seconds=1), error={"code": "empty_conversation"})
    assert scrape()['snapshots_accepted_total{trigger="client"}'] == 0


def test_event_that_went_out_late_is_timed_by_when_it_did(bench: Bench, scrape: Scraper) -> None:
    (key,) = bench.chunk(1)
    Run(bench.service)([key])
    bench.change([key], unsent=True)
    bench.advance(seconds=20)
    bench.service.ledger.finish([bench.entry(key)])
    bench.change([key], attempts=0)  # a majority write: what this one did not wait for is there too
    assert eventually(lambda: 20 <= scrape()['snapshots_accept_to_event_seconds_sum{trigger="client"}'] < 25)


# --- cheap --------------------------------------------------------------------------------------------


def fill(bench: Bench, count: int, since: datetime, every: timedelta) -> None:
    bench.database.snapshotrequests.insert_many(
        {
            "organizationId": bench.organization,
            "requestId": f"old-{number}",
            "trigger": "backfill",
            "status": "completed",
            "round": 0,
            "acceptedAt": since + number * every,
            "finishedAt": since + number * every,
        }
        for number in range(count)
    )


def test_large_ledger_is_added_in_slices_and_shown_only_when_it_is_whole(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcomes, "_SLICE", 100)
    fill(bench, 1000, bench.ago(days=3), timedelta(seconds=200))
    fold = OutcomeFold(bench.connections)
    assert fold(0.000001) is None
    found = fold(10)
    assert found is not None
    assert sum(each.requests for each in found.finished.values()) == 1000
    again = fold(10)
    assert again is not None
    assert again.finished == found.finished


def test_scrape_reads_only_what_was_finished_since_the_last(bench: Bench, scrape: Scraper) -> None:
    fill(bench, 2000, bench.ago(days=3), timedelta(seconds=1))
    scrape()
    reached = bench.database.snapshotstate.find_one({"_id": "measures"})["reached"]
    pipeline = [*outcomes._finished(reached, None, bench.ago(seconds=0)), outcomes._group_finished(reached)]
    command: Any = {"aggregate": "snapshotrequests", "pipeline": pipeline, "cursor": {}}
    said = bench.database.command("explain", command, verbosity="executionStats")
    stats = said["stages"][0]["$cursor"] if "stages" in said else said
    assert stats["executionStats"]["totalDocsExamined"] == 0
    assert stats["executionStats"]["totalKeysExamined"] < 20
