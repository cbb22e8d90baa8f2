"""Events count as emitted only if they went to the Redis that the sweeps know."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.ledger import Bench, bench_on
from support.redis_server import own_redis, valkey_server
from support.sweeping import events_of, sweep
from worker.errors import BrokerUnavailable
from worker.runs.run import Run
from worker.settings import Settings


@pytest.fixture
def promoted(settings: Settings, tmp_path: Path) -> Iterator[Bench]:
    """The service on another Redis: the replica that a failover made the primary, without the last writes."""
    with own_redis(valkey_server(), tmp_path) as client:
        port = client.connection_pool.connection_kwargs["port"]
        with bench_on(settings.model_copy(update={"redis_url": f"redis://127.0.0.1:{port}/0"})) as made:
            yield made


def test_events_of_a_former_primary_are_emitted_again_by_the_new_one(bench: Bench, promoted: Bench) -> None:
    sweep(bench)
    sweep(promoted)  # the failover, and its replay, which is over
    keys = bench.chunk(3)
    Run(bench.service)(keys)  # by a worker that has not lost its connection to the former primary
    assert all(entry.get("unsent") for entry in bench.entries(keys))
    bench.change(keys, finishedAt=bench.ago(seconds=16))
    assert sweep(promoted).emitted == 3
    assert {event["id"] for event in promoted.events()} == events_of(keys)


def test_former_primary_takes_no_event_however_often_it_is_asked(bench: Bench, promoted: Bench) -> None:
    sweep(bench)
    sweep(promoted)
    (key,) = bench.chunk(1)
    Run(bench.service)([key])
    for _ in range(2):
        with pytest.raises(BrokerUnavailable, match="not the one that the last sweep saw"):
            bench.service.events.emit(bench.entries([key]))
    promoted.service.events.emit(bench.entries([key]))


def test_worker_emits_to_the_new_primary_as_soon_as_a_sweep_has_found_it(bench: Bench, promoted: Bench) -> None:
    sweep(bench)
    Run(promoted.service)(first := promoted.chunk(1))
    assert promoted.entry(first[0]).get("unsent")
    sweep(promoted)
    Run(promoted.service)(second := promoted.chunk(1))
    assert not promoted.entry(second[0]).get("unsent")
    assert events_of(second) <= {event["id"] for event in promoted.events()}
