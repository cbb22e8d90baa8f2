"""Batching: single requests that pile up are run in chunks, each by one run."""

from collections.abc import Sequence

import pytest
import redis
from bson import ObjectId

from support.ledger import Bench
from worker.errors import BrokerUnavailable
from worker.runs.batching import Batching
from worker.settings import Settings
from worker.stores.wakeups import INTERACTIVE
from worker.sweep.sweep import Sweep


def fill_queue(bench: Bench, messages: int) -> None:
    """Puts messages into the queue; only their number matters."""
    bench.connections.redis.rpush(INTERACTIVE, *(b"{}" for _ in range(messages)))


def backlog(bench: Bench, count: int) -> Sequence[ObjectId]:
    keys = bench.chunk(count)
    fill_queue(bench, count)
    return keys


def test_request_in_a_short_queue_is_run_alone(bench: Bench) -> None:
    first, second = bench.chunk(2)
    assert Batching(bench.service).join([first]) == [first]
    assert Batching(bench.service).join([second]) == [second]


def test_backlog_is_claimed_in_chunks_and_its_messages_find_nothing_left(bench: Bench) -> None:
    keys = backlog(bench, 8)
    mine, other = Batching(bench.service), Batching(bench.service)
    taken = mine.join([keys[0]])
    assert sorted(taken) == sorted(keys)
    assert taken[0] == keys[0]
    for key in keys:
        assert other.join([key]) == []
        assert mine.join([key]) == []


def test_two_processes_share_a_backlog_and_claim_no_request_twice(settings: Settings, bench: Bench) -> None:
    half = bench.another(chunk_size=4)
    keys = backlog(half, 12)
    one, two = Batching(half.service), Batching(half.service)
    shares = [one.join([keys[0]]), two.join([keys[1]]), one.more(), two.more()]
    taken = [key for share in shares for key in share]
    assert sorted(taken) == sorted(keys)
    assert max(map(len, shares)) == 4
    half.connections.close()


def test_suspects_and_requests_that_are_due_later_or_name_messages_are_left_to_their_own_messages(bench: Bench) -> None:
    first, swept, unended, later, bulk = bench.chunk(5)
    bench.accepted(bench.asked(bench.contact(), messageIds=[ObjectId()]))
    bench.change([swept], swept=3)
    bench.change([unended], unended=1)
    bench.change([later], enqueuedAt=bench.ago(seconds=-20))
    bench.change([bulk], queue="snapshots.bulk")
    fill_queue(bench, 10)
    assert Batching(bench.service).join([first]) == [first, swept]


def test_sweep_releases_the_claims_of_what_it_enqueues_again(bench: Bench) -> None:
    keys = bench.chunk(2)
    batching = Batching(bench.service)
    assert batching.join(keys) == keys
    assert batching.join(keys) == []
    bench.change(keys, enqueuedAt=bench.ago(seconds=60))
    assert Sweep(bench.service)().re_enqueued == 2
    assert batching.join(keys) == keys


def test_claim_outlives_a_run_and_expires_before_the_sweep_enqueues_again(bench: Bench) -> None:
    (key,) = bench.chunk(1)
    Batching(bench.service).join([key])
    (claim,) = bench.connections.redis.keys("snapshots:claim:*")
    life = bench.connections.redis.pttl(claim) / 1000
    assert bench.settings.run_deadline.total_seconds() < life < bench.settings.lost_after.total_seconds()


def test_claim_ahead_of_a_message_lives_until_the_message_arrives(bench: Bench) -> None:
    """The message arrives from behind a long queue, when the run is long over.

    Without the claim it would cost a lookup, and a queue of messages whose requests are done would keep growing.
    """
    first, ahead = bench.chunk(2)
    fill_queue(bench, 8)
    assert Batching(bench.service).join([first]) == [first, ahead]
    own, claimed = (bench.connections.redis.pttl(f"snapshots:claim:{key}") / 1000 for key in (first, ahead))
    assert own < bench.settings.lost_after.total_seconds() < 60 < claimed


def test_request_that_fails_ahead_of_its_message_is_reported_by_it_or_if_that_was_earlier_by_another(
    bench: Bench,
) -> None:
    first, early, late = bench.chunk(3)
    fill_queue(bench, 8)
    mine, other = Batching(bench.service), Batching(bench.service)
    assert mine.join([first]) == [first, early, late]
    assert other.join([early]) == []  # its run has not decided yet
    mine.report_failures([early, late])
    assert bench.published.chunks == [("snapshots.bulk", [str(early)])]
    assert other.join([late])[:1] == [late]


def test_lookup_that_is_interrupted_keeps_what_it_has_claimed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    half = bench.another(chunk_size=4)
    keys = backlog(half, 6)
    batching = Batching(half.service)
    take = batching._claims.claim_ahead
    take(keys[:1])  # another process has the first one, so that one page is not enough
    pages: list[Sequence[ObjectId]] = []

    def fail_on_the_second_page(page: Sequence[ObjectId]) -> list[ObjectId]:
        pages.append(page)
        if len(pages) == 2:
            raise BrokerUnavailable
        return take(page)

    monkeypatch.setattr(batching._claims, "claim_ahead", fail_on_the_second_page)
    assert sorted(batching.more()) == sorted(keys[1:4])
    half.connections.close()


def test_without_redis_requests_are_run_alone(bench: Bench) -> None:
    (key,) = bench.chunk(1)
    away = bench.another(redis_url="redis://127.0.0.1:1/0")
    assert Batching(away.service).join([key]) == [key]
    assert Batching(away.service).more() == []
    away.connections.close()


@pytest.mark.usefixtures("changeable_redis")
def test_redis_without_memory_does_not_stop_requests(bench: Bench) -> None:
    (key,) = bench.chunk(1)
    broker: redis.Redis = bench.connections.redis
    try:
        broker.config_set("maxmemory", "1mb")
        assert Batching(bench.service).join([key]) == [key]
    finally:
        broker.config_set("maxmemory", "0")
