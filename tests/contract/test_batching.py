"""Single requests that pile up are taken in chunks, each by one run."""

from collections.abc import Sequence

import pytest
import redis
from bson import ObjectId

from support.ledger import Bench
from worker.errors import BrokerUnavailable
from worker.runs.batching import Neighbours
from worker.settings import Settings
from worker.stores.wakeups import INTERACTIVE
from worker.sweep.sweep import Sweep


def waits(bench: Bench, messages: int) -> None:
    """As if so many messages waited in the queue."""
    bench.connections.redis.rpush(INTERACTIVE, *(b"{}" for _ in range(messages)))


def piled_up(bench: Bench, count: int) -> Sequence[ObjectId]:
    keys = bench.chunk(count)
    waits(bench, count)
    return keys


def test_a_request_by_itself_is_run_alone(bench: Bench) -> None:
    first, second = bench.chunk(2)
    assert Neighbours(bench.service).join([first]) == [first]
    assert Neighbours(bench.service).join([second]) == [second]


def test_a_long_queue_is_worked_down_in_chunks_and_its_messages_find_nothing_left(bench: Bench) -> None:
    keys = piled_up(bench, 8)
    mine, other = Neighbours(bench.service), Neighbours(bench.service)
    taken = mine.join([keys[0]])
    assert sorted(taken) == sorted(keys)
    assert taken[0] == keys[0]
    for key in keys:
        assert other.join([key]) == []
        assert mine.join([key]) == []


def test_two_that_look_at_once_share_and_a_request_is_never_with_both(settings: Settings, bench: Bench) -> None:
    half = bench.another(chunk_size=4)
    keys = piled_up(half, 12)
    one, two = Neighbours(half.service), Neighbours(half.service)
    shares = [one.join([keys[0]]), two.join([keys[1]]), one.more(), two.more()]
    taken = [key for share in shares for key in share]
    assert sorted(taken) == sorted(keys)
    assert max(map(len, shares)) == 4
    half.connections.close()


def test_suspects_those_that_name_messages_and_those_due_later_are_left_to_their_own_messages(bench: Bench) -> None:
    first, swept, unended, later, bulk = bench.chunk(5)
    bench.change([swept], swept=1)
    bench.change([unended], unended=1)
    bench.change([later], enqueuedAt=bench.ago(seconds=-20))
    bench.change([bulk], queue="snapshots.bulk")
    waits(bench, 10)
    assert Neighbours(bench.service).join([first]) == [first]


def test_what_the_sweep_calls_again_is_free_again(bench: Bench) -> None:
    keys = bench.chunk(2)
    neighbours = Neighbours(bench.service)
    assert neighbours.join(keys) == keys
    assert neighbours.join(keys) == []
    bench.change(keys, enqueuedAt=bench.ago(seconds=60))
    assert Sweep(bench.service)().called_again == 2
    assert neighbours.join(keys) == keys


def test_a_claim_outlives_a_run_and_not_the_sweeps_patience(bench: Bench) -> None:
    (key,) = bench.chunk(1)
    Neighbours(bench.service).join([key])
    (claim,) = bench.connections.redis.keys("snapshots:claim:*")
    life = bench.connections.redis.pttl(claim) / 1000
    assert bench.settings.run_deadline.total_seconds() < life < bench.settings.lost_after.total_seconds()


def test_what_is_taken_ahead_of_its_message_is_told_at_once_when_that_comes_at_last(bench: Bench) -> None:
    """From behind a long queue, when a run is long over: else each such message would lead to a look, and a pile whose
    requests are all done would grow for as long as others come."""
    first, ahead = bench.chunk(2)
    waits(bench, 8)
    assert Neighbours(bench.service).join([first]) == [first, ahead]
    own, taken = (bench.connections.redis.pttl(f"snapshots:claim:{key}") / 1000 for key in (first, ahead))
    assert own < bench.settings.lost_after.total_seconds() < 60 < taken


def test_a_look_that_is_cut_off_keeps_what_it_has_taken(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    half = bench.another(chunk_size=4)
    keys = piled_up(half, 6)
    neighbours = Neighbours(half.service)
    take = neighbours._claims.take
    take(keys[:1])  # another's, so that one page is not enough
    pages: list[Sequence[ObjectId]] = []

    def fails_at_the_second_page(page: Sequence[ObjectId], life: int | None = None) -> tuple[list[ObjectId], int]:
        pages.append(page)
        if len(pages) == 2:
            raise BrokerUnavailable
        return take(page, life)

    monkeypatch.setattr(neighbours._claims, "take", fails_at_the_second_page)
    assert sorted(neighbours.more()) == sorted(keys[1:4])
    half.connections.close()


def test_without_redis_a_request_is_run_alone(bench: Bench) -> None:
    (key,) = bench.chunk(1)
    away = bench.another(redis_url="redis://127.0.0.1:1/0")
    assert Neighbours(away.service).join([key]) == [key]
    assert Neighbours(away.service).more() == []
    away.connections.close()


@pytest.mark.usefixtures("changeable_redis")
def test_a_redis_out_of_memory_lets_requests_run(bench: Bench) -> None:
    (key,) = bench.chunk(1)
    broker: redis.Redis = bench.connections.redis
    try:
        broker.config_set("maxmemory", "1mb")
        assert Neighbours(bench.service).join([key]) == [key]
    finally:
        broker.config_set("maxmemory", "0")
